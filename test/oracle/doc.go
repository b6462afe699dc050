// Package oracle holds the engine against the real kernel.
//
// A Case is a set of rules, routes, sets and sysctls, written as input of the real tools (iptables-restore, nft, ip,
// ipset), and packets. Run makes a network namespace, the node, loads the case with those tools, and for every packet
// asks the engine what will happen before it sends the packet and sees what does. The kernel is the judge: nothing that
// the tests expect comes from the engine.
//
//	            ┌────────────── node ──────────────┐
//	ext  ───────┤ ext   192.0.2.1   default route  ├─────── p1  10.244.1.11
//	eth1 ───────┤ eth1  198.51.100.1               ├─────── p2  10.244.1.12
//	            │       local processes            ├─────── p3  10.244.1.13
//	            └──────────────────────────────────┘
//
// The far ends of the node's interfaces have no network stack: packets are written to them and read from them as they
// are, so nothing answers that the test does not send. What the node's own stack takes is read from raw sockets, which
// see a packet behind the INPUT hook.
//
// A case can be written as a text file; testdata/regress holds such files, each a case that once went wrong or that is
// easy to get wrong, with the fates that the kernel gave.
package oracle
