package nftables

import "github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"

// Osf loads a guess at the sender's operating system (net/netfilter/nft_osf.c). It needs the TCP options and the loaded
// fingerprints, which are not known here.
type Osf struct {
	Dest  register
	TTL   uint8
	Flags uint32
}

func decodeOsf(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	x := &Osf{TTL: t.u8(2), Flags: t.u32(3)}
	x.Dest, err = parseRegister(t.u32(1))
	return x, err
}

// Name returns osf.
func (x *Osf) Name() string { return "osf" }

func (x *Osf) effect() bool { return false }

func (x *Osf) eval(st *state) (bool, error) {
	if st.p.Proto() != skb.TCP {
		return false, nil
	}
	if flags, known := st.p.TCPFlags(); known&0x02 != 0 && flags&0x02 == 0 {
		return false, nil
	}
	st.regs.store(x.Dest, unknown(16), source{label: "the sender's operating system"})
	return true, nil
}
