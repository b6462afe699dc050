//go:build linux

// Command bench measures what one trace costs, beside what dumping the state costs and beside the bare reads.
//
//	go run . -o ../../docs/speed.md
//
// For each backend of kube-proxy and each number of Services it makes a network namespace of its own, lets kube-proxy's
// own code write its rules there (test/lab/cmd/kubeproxy-state), and then runs three programs in turn, several times:
//
//	agent  svctrace-agent packet, from a pod to a Service's cluster IP
//	floor  the reads that this packet needs, by the same system calls, without decoding: cmd/floor
//	dump   iptables-save or nft list ruleset
//
// Each is a process of its own; time and memory are what the kernel accounts to it (wait4, in cmd/floor). The figures are medians.
// Nothing is sent, and nothing is written outside the namespace.
package main
