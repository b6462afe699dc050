package skb

import "net/netip"

// RecentTouch is what a recent match did with an address of a list while this packet was on its way. The node's state
// was read before: whoever asks a list must count these in.
type RecentTouch struct {
	// List is the list's name, Addr the address behind the list's mask.
	List string
	Addr netip.Addr
	// Removed is true when the address was taken off the list, false when it was stamped.
	Removed bool
}

// SetTouch is what a SET target or a dynamic set statement did with an entry of an ipset.
type SetTouch struct {
	// Set is the set's name, Entry the entry as the kernel's data attributes.
	Set, Entry string
	Removed    bool
}

// Template is what a CT target attached to the packet before connection tracking sees it (a template nf_conn). The new
// connection takes it over.
type Template struct {
	// Zone is the zone; ZoneFromMark takes it from the packet's mark instead. OriginalOnly and ReplyOnly restrict it to
	// one direction (--zone-orig, --zone-reply).
	Zone                    uint16
	ZoneFromMark            bool
	OriginalOnly, ReplyOnly bool
	// Helper and Timeout name a helper and a timeout policy, empty when none.
	Helper, Timeout string
}

// SetNetworkBits writes bytes at off from the network header of which only some bits are known afterwards. It returns
// false when they lie outside the headers that are described.
func (p *Packet) SetNetworkBits(off int, b, known []byte) bool {
	if off < 0 || off+len(b) > len(p.data) || len(known) != len(b) {
		return false
	}
	for i := range b {
		p.data[off+i], p.known[off+i] = b[i]&known[i], known[i]
	}
	return true
}
