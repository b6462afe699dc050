// Package faults proves the findings about nodes: each test causes a fault for real in a cluster of three nodes, one for each
// of kube-proxy's modes, sees real connections fail, and requires that finding, with its evidence, and no other. After the
// repair it must be gone.
package faults
