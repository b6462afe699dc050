package node

import "net/netip"

// Tunnel is the configuration of a tunnel interface (vxlan, geneve, ipip, sit, gre, ip6tnl).
type Tunnel struct {
	// ID is the network identifier of VXLAN and Geneve.
	ID uint32
	// Local and Remote are the outer addresses, invalid where they are not fixed.
	Local, Remote netip.Addr
	// Port is the UDP port that outer packets go to, 0 for kinds without.
	Port uint16
	// External is true when each packet brings its own tunnel parameters (collect metadata).
	External bool
	// Carries is the IP protocol number of the packets that ipip, sit and ip6tnl take: 4 for IPv4, 41 for IPv6, 0 for any.
	Carries uint8
	// Sends are the fields of the GRE packets that it makes, Takes those that it wants in the ones it takes.
	Sends, Takes GREFields
	// Limited is true for an ip6tnl that adds an encapsulation limit (RFC 2473).
	Limited bool
	// Within says what its packets are put into before the outer IP header, "" for nothing: fou, gue, or mpls.
	Within string
}

// GREFields are the optional fields of a GRE header (RFC 2784, RFC 2890), of four bytes each.
type GREFields struct {
	Checksum, Keyed, Sequence bool
	// Key is 0 when there is none.
	Key uint32
}

// Bytes is the length of the fields.
func (f GREFields) Bytes() int {
	n := 0
	for _, has := range []bool{f.Checksum, f.Keyed, f.Sequence} {
		if has {
			n += 4
		}
	}
	return n
}

// Encap are the tunnel parameters that a route gives its packets, for interfaces that are External (ip route … encap).
type Encap struct {
	// Kind is "ip" or "ip6"; another name ("mpls", "seg6") is that of an encapsulation whose parameters are not read, and ""
	// stands for none.
	Kind                string
	ID                  uint64
	Source, Destination netip.Addr
	// GRE are the fields that it asks GRE for, with ID as the key.
	GRE GREFields
	// Options is the length of Geneve's options, in bytes.
	Options int
}

// Lengths that tunnels add behind the outer IP header: outer UDP and VXLAN's or Geneve's header with the inner Ethernet header;
// GRE's own header, and the inner Ethernet header of gretap; the header with the encapsulation limit of ip6tnl.
const (
	udpTunnelBytes = 8 + 8 + 14
	greBytes       = 4
	etherBytes     = 14
	limitBytes     = 8
)

// Overhead is what a tunnel of a kind adds to the size of an IP packet, the outer IP header included; 0 for kinds that are
// not known.
func (t *Tunnel) Overhead(kind string, outer6 bool) int {
	ip := 20
	if outer6 {
		ip = 40
	}
	switch kind {
	case "vxlan", "geneve":
		return ip + udpTunnelBytes
	case "gre", "ip6gre":
		return ip + greBytes + t.Sends.Bytes()
	case "gretap":
		return ip + greBytes + t.Sends.Bytes() + etherBytes
	case "ipip", "sit":
		return ip
	case "ip6tnl":
		if t.Limited {
			return ip + limitBytes
		}
		return ip
	}
	return 0
}
