package nftables

import "fmt"

// Tunnel loads the tunnel metadata that an external-mode tunnel device left with the packet (net/netfilter/nft_tunnel.c).
type Tunnel struct {
	// Key is 0 for whether there is any, 1 for the tunnel's id.
	Key  uint32
	Mode uint32
	Dest register
}

func decodeTunnel(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	x := &Tunnel{Key: t.u32(1), Mode: t.u32(3)}
	if x.Key > 1 {
		return &Opaque{Type: "tunnel", Why: fmt.Sprintf("key %d", x.Key), Raw: append([]byte(nil), b...)}, nil
	}
	x.Dest, err = parseRegister(t.u32(2))
	return x, err
}

// Name returns tunnel.
func (x *Tunnel) Name() string { return "tunnel" }

func (x *Tunnel) effect() bool { return false }

func (x *Tunnel) eval(st *state) (bool, error) {
	in, err := st.linkOf(st.p.In)
	if err != nil {
		return false, err
	}
	may := false
	if in != nil {
		switch in.Kind {
		case "vxlan", "geneve", "gre", "gretap", "ip6gre", "ip6gretap", "ipip", "sit", "ip6tnl", "erspan", "ip6erspan", "xfrm", "bareudp":
			may = true
		}
	}
	switch {
	case may && x.Key == 0:
		st.regs.store(x.Dest, value{[]byte{0}, []byte{0xfe}}, source{label: "the tunnel metadata"})
	case may:
		st.regs.store(x.Dest, unknown(4), source{label: "the tunnel id"})
	case x.Key == 0:
		st.regs.store(x.Dest, knownU8(0), source{label: "the tunnel metadata"})
	default:
		return false, nil
	}
	return true, nil
}
