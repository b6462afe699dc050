//go:build linux

package rtnl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// encapKinds are the names of LWTUNNEL_ENCAP_ values (include/uapi/linux/lwtunnel.h), as ip route prints them.
var encapKinds = []string{"", "mpls", "ip", "ila", "ip6", "seg6", "bpf", "seg6local", "rpl", "ioam6", "xfrm"}

// Attributes of RTA_ENCAP (LWTUNNEL_IP_… and LWTUNNEL_IP6_…).
const (
	encapID      = 1
	encapDst     = 2
	encapSrc     = 3
	encapFlags   = 6
	encapOptions = 8
	encapGeneve  = 1 // in encapOptions
	geneveData   = 3 // in encapGeneve
	geneveHeader = 4
)

// Flags of struct ip_tunnel_key, as encapFlags has them (TUNNEL_ of include/net/ip_tunnels.h).
const (
	tunnelChecksum = 0x01
	tunnelKey      = 0x04
	tunnelSequence = 0x08
)

// encapKind names the value of RTA_ENCAP_TYPE.
func encapKind(b []byte) (string, error) {
	if len(b) < 2 {
		return "", fmt.Errorf("a route's encapsulation type of %d bytes", len(b))
	}
	if v := int(binary.NativeEndian.Uint16(b)); v < len(encapKinds) {
		return encapKinds[v], nil
	}
	return fmt.Sprintf("encapsulation %d", binary.NativeEndian.Uint16(b)), nil
}

// decodeEncap reads RTA_ENCAP of the kinds ip and ip6; it leaves those of others.
func decodeEncap(kind string, b []byte) (node.Encap, error) {
	e := node.Encap{Kind: kind}
	if kind != "ip" && kind != "ip6" {
		return e, nil
	}
	err := nlattr.Each(b, func(typ uint16, b []byte) error {
		short := fmt.Errorf("attribute %d of a route's encapsulation, of %d bytes", typ, len(b))
		switch typ {
		case encapID:
			if len(b) < 8 {
				return short
			}
			e.ID = binary.BigEndian.Uint64(b)
		case encapDst, encapSrc:
			a, ok := netip.AddrFromSlice(b)
			switch {
			case !ok:
				return short
			case a.IsUnspecified():
			case typ == encapDst:
				e.Destination = a
			default:
				e.Source = a
			}
		case encapFlags:
			if len(b) < 2 {
				return short
			}
			v := binary.BigEndian.Uint16(b)
			e.GRE = node.GREFields{Checksum: v&tunnelChecksum != 0, Keyed: v&tunnelKey != 0, Sequence: v&tunnelSequence != 0}
		case encapOptions:
			return nlattr.Each(b, func(typ uint16, b []byte) error { return encapOption(&e, typ, b) })
		}
		return nil
	})
	if e.GRE.Keyed {
		e.GRE.Key = uint32(e.ID)
	}
	return e, err
}

// encapOption counts the bytes of one option of Geneve. Those of VXLAN stand in its header.
func encapOption(e *node.Encap, typ uint16, b []byte) error {
	if typ != encapGeneve {
		return nil
	}
	return nlattr.Each(b, func(typ uint16, b []byte) error {
		if typ == geneveData {
			e.Options += geneveHeader + len(b)
		}
		return nil
	})
}
