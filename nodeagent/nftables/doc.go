// Package nftables decodes, evaluates and prints nftables rules as they come from the kernel by netlink.
//
// It is pure: it takes messages (the attributes behind struct nfgenmsg) and asks an Env for what a rule needs while it
// is evaluated: set elements, routes, addresses, sockets.
//
// # How a rule runs
//
// A rule is a list of expressions over a register file of 20 32-bit words (include/net/netfilter/nf_tables.h, struct
// nft_regs). Expressions load packet fields, connection state or constants into registers, compare, look up sets, and
// at last issue a verdict. An expression that does not hold sets NFT_BREAK and the rule is left: its earlier statements
// have taken effect, its later ones have not.
//
//	table ip t { chain c { ip daddr . tcp dport vmap @services } }
//
//	payload  network 16 4 -> reg 1      load the destination address
//	payload  transport 2 2 -> reg 9     load the destination port
//	lookup   services reg 1 -> verdict  find the element, take its verdict
//
// # What is not known
//
// Every register bit carries a flag that says whether its value is known. A comparison that the known bits decide is
// decided; else the evaluation forks (rule.Chooser.Depends) and says what decides, for instance "ip ttl 64". What is not
// understood (an expression of a newer kernel) stays as Opaque and forks as unknown. A rule without any effect on the
// packet behind such a fork does not fork: nobody would see a difference.
package nftables
