// Package namespaces holds walks that follow a packet from a pod's process to a pod's socket against real connections,
// in network namespaces that the tests make: a node with a bridge, pods on it, and a second node behind a VXLAN.
package namespaces
