// Package xtables evaluates xtables rules: those of legacy iptables, decoded from the kernel's own table, and the match
// and target expressions inside iptables-nft rules.
//
// A legacy table is one blob (struct ipt_replace's entries, include/uapi/linux/netfilter_ipv4/ip_tables.h): entries one
// behind the other, each an IP header match, then matches, then a target. A chain has no object of its own: built-in
// chains start where struct ipt_getinfo says, user-defined chains behind an entry whose target ERROR holds their name,
// and a jump is the offset of its first rule.
//
//	hook entry -> rule, rule, …, policy | ERROR "KUBE-SVC-…" | rule, rule, …, RETURN | ERROR "…" | … | ERROR "ERROR"
//
// Nothing of it is decoded before a packet comes by: a table of 10,000 Services has 192 MB.
//
// An extension is known by name and revision, and its parameters are the bytes of its C struct. What the package does
// not know it never guesses: the evaluation forks and says so. Extensions lists what is modelled.
package xtables
