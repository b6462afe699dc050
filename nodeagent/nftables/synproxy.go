package nftables

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Synproxy answers connection attempts in the server's stead (net/netfilter/nft_synproxy.c).
type Synproxy struct {
	MSS    uint16
	Wscale uint8
	Flags  uint32
}

func decodeSynproxy(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	return &Synproxy{MSS: t.u16(1), Wscale: t.u8(2), Flags: t.u32(3)}, nil
}

// Name returns synproxy.
func (x *Synproxy) Name() string { return "synproxy" }

func (x *Synproxy) effect() bool { return true }

func (x *Synproxy) eval(st *state) (bool, error) {
	if st.p.Proto() != skb.TCP {
		return false, nil
	}
	flags, known := st.p.TCPFlags()
	syn := value{[]byte{flags & 0x02}, []byte{known | ^uint8(0x02)}}.equals([]byte{0x02})
	if st.decide(syn, "the SYN flag is set") {
		st.res.Code = rule.Stolen
		st.act("synproxy answers with SYN and ACK")
		return false, nil
	}
	ack := value{[]byte{flags & 0x10}, []byte{known | ^uint8(0x10)}}.equals([]byte{0x10})
	if !st.decide(ack, "the ACK flag is set") {
		return true, nil
	}
	if st.depends("the ACK completes a handshake with synproxy") {
		st.res.Code = rule.Stolen
		st.act("synproxy connects to the server")
	} else {
		st.res.Code = rule.Drop
		st.act("drop (no handshake with synproxy)")
	}
	return false, nil
}
