package skb

import "net/netip"

// NAT describes a translation that a rule asks for (struct nf_nat_range2).
type NAT struct {
	// Source is true for source NAT (SNAT, MASQUERADE), false for destination NAT.
	Source bool
	// Min and Max bound the new address; both invalid: the address stays. Equal: that address.
	Min, Max netip.Addr
	// MinPort and MaxPort bound the new port when Ports is true.
	MinPort, MaxPort uint16
	Ports            bool
	// Base is the base port of a shifted port range (--to-destination a:1-2/3); Shifted tells that it is used.
	Base    uint16
	Shifted bool
	// Random and FullyRandom ask for a random source port; Persistent leaves the destination out of the address hash.
	Random, FullyRandom, Persistent bool
	// Netmap maps the address's prefix one to one (NETMAP): the host bits stay.
	Netmap bool
}
