//go:build linux

package rtnl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// tunnelAttrs are the numbers of the attributes of a kind of tunnel (IFLA_VXLAN_…, IFLA_GENEVE_…, IFLA_IPTUN_…,
// IFLA_GRE_…); 0 where a kind has none.
type tunnelAttrs struct {
	id, local, local6, remote, remote6, port, external uint16
	// carries is the protocol inside; limitFlags and within say what else stands around it; the others are GRE's.
	carries, limitFlags, within      uint16
	inFlags, outFlags, inKey, outKey uint16
}

var greAttrs = tunnelAttrs{local: 6, remote: 7, external: 18, within: 14, inFlags: 2, outFlags: 3, inKey: 4, outKey: 5}

var tunnelKinds = map[string]tunnelAttrs{
	"vxlan":  {id: 1, local: 4, local6: 17, remote: 2, remote6: 16, port: 15, external: 25},
	"geneve": {id: 1, remote: 2, remote6: 7, port: 5, external: 6},
	"ipip":   {local: 2, remote: 3, external: 19, carries: 9, within: 15},
	"sit":    {local: 2, remote: 3, carries: 9, within: 15},
	"ip6tnl": {local: 2, remote: 3, external: 19, carries: 9, within: 15, limitFlags: 8},
	"gre":    greAttrs,
	"gretap": greAttrs,
}

// ignoreLimit is IP6_TNL_F_IGN_ENCAP_LIMIT (include/uapi/linux/ip6_tunnel.h).
const ignoreLimit = 1

// Flags of GRE's header (include/uapi/linux/if_tunnel.h).
const (
	greChecksum = 0x8000
	greKey      = 0x2000
	greSequence = 0x1000
)

func tunnelData(l *node.Link, b []byte) error {
	f, ok := tunnelKinds[l.Kind]
	if !ok {
		return nil
	}
	t := &node.Tunnel{Limited: f.limitFlags != 0}
	l.Tunnel = t
	return nlattr.Each(b, func(typ uint16, b []byte) error {
		if typ == 0 { // as the numbers of attributes that a kind has not
			return nil
		}
		need := 0
		switch typ {
		case f.id, f.inKey, f.outKey, f.limitFlags:
			need = 4
		case f.port, f.inFlags, f.outFlags, f.within:
			need = 2
		case f.carries:
			need = 1
		}
		if len(b) < need {
			return fmt.Errorf("attribute %d of a %s tunnel, of %d bytes", typ, l.Kind, len(b))
		}
		addr, isAddr := netip.AddrFromSlice(b)
		isAddr = isAddr && !addr.IsUnspecified()
		switch typ {
		case f.id:
			t.ID = binary.NativeEndian.Uint32(b)
		case f.local, f.local6:
			if isAddr {
				t.Local = addr
			}
		case f.remote, f.remote6:
			if isAddr {
				t.Remote = addr
			}
		case f.port:
			t.Port = binary.BigEndian.Uint16(b)
		case f.external:
			t.External = len(b) == 0 || b[0] != 0
		case f.carries:
			t.Carries = b[0]
		case f.limitFlags:
			t.Limited = binary.NativeEndian.Uint32(b)&ignoreLimit == 0
		case f.within:
			t.Within = withinName(binary.NativeEndian.Uint16(b))
		case f.inFlags:
			greFlags(&t.Takes, b)
		case f.outFlags:
			greFlags(&t.Sends, b)
		case f.inKey:
			t.Takes.Key = binary.BigEndian.Uint32(b)
		case f.outKey:
			t.Sends.Key = binary.BigEndian.Uint32(b)
		}
		return nil
	})
}

// withinName is the name of a TUNNEL_ENCAP_ value (include/uapi/linux/if_tunnel.h).
func withinName(v uint16) string {
	names := []string{"", "fou", "gue", "mpls"}
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("encapsulation %d", v)
}

func greFlags(f *node.GREFields, b []byte) {
	v := binary.BigEndian.Uint16(b)
	f.Checksum, f.Keyed, f.Sequence = v&greChecksum != 0, v&greKey != 0, v&greSequence != 0
}
