// Package intent holds what plugin/intent expects against kube-proxy itself: objects are made at random, kube-proxy's own
// code writes its rules for them into a network namespace, and the engine walks packets through these rules. What it
// finds must be what was expected: the fate, the endpoints, and whether the client's address is replaced.
//
//	          ┌────────── node1, a namespace ──────────┐
//	eth0 ─────┤ 10.250.0.11, fd00:250::11              ├───── pods, behind which are 10.244.1.0/24 and fd00:244:1::/64
//	          │ rules: kube-proxy's own                │
//	          └────────────────────────────────────────┘
//
// No packet is sent: that the engine says what the kernel does is held in test/oracle and test/e2e.
package intent
