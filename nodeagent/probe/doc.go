// Package probe opens real connections and reports what the kernel says about them. It is the only part of the agent that
// sends packets.
//
//	namespaces     the client's, the node's, and that of the endpoint if it is on this node
//	attempt        one connection from the client's namespace, with a time limit
//	conntrack      the entries that came to be: which endpoint got it, and from which source
//	counters       the rules on the path whose counters moved
//	trace events   the nftables rules that the first packet met (meta nftrace, nfnetlink group NFNLGRP_NFTRACE)
//	drops          the reason for which the kernel threw a packet away (tracepoint skb:kfree_skb, Linux 5.17)
//
// Trace events need rules of our own. They stand in a table that belongs to a netlink socket (NFT_TABLE_F_OWNER, Linux
// 5.12): the kernel removes it when the socket closes, so that nothing remains however the process ends. A kernel without
// such tables is probed without trace events. The program that watches drops is held by file descriptors alone, and goes
// with them too. The TRACE target of legacy iptables is not used: its rules would stay if the process were killed.
package probe
