package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Types of a Reject (enum nft_reject_types).
const (
	rejectICMP  = 0
	rejectReset = 1
	rejectICMPX = 2
)

// Reject drops a packet and answers (net/netfilter/nft_reject.c and its families' files).
type Reject struct {
	Type uint32
	Code uint8
}

func decodeReject(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(2)
	if err != nil {
		return nil, err
	}
	x := &Reject{Type: t.u32(1), Code: t.u8(2)}
	if x.Type > rejectICMPX {
		return &Opaque{Type: "reject", Why: fmt.Sprintf("type %d", x.Type), Raw: append([]byte(nil), b...)}, nil
	}
	return x, nil
}

// Name returns reject.
func (x *Reject) Name() string { return "reject" }

func (x *Reject) effect() bool { return true }

// The answers in iptables' names, by ICMP code.
var (
	rejectIPv4 = map[uint8]string{
		0: "icmp-net-unreachable", 1: "icmp-host-unreachable", 2: "icmp-proto-unreachable", 3: "icmp-port-unreachable",
		9: "icmp-net-prohibited", 10: "icmp-host-prohibited", 13: "icmp-admin-prohibited",
	}
	rejectIPv6 = map[uint8]string{
		0: "icmp6-no-route", 1: "icmp6-adm-prohibited", 3: "icmp6-addr-unreachable", 4: "icmp6-port-unreachable",
		5: "icmp6-policy-fail", 6: "icmp6-reject-route",
	}
	// The codes of icmpx in each family (nft_reject_icmp_code, nft_reject_icmpv6_code).
	icmpxIPv4 = map[uint8]uint8{0: 0, 1: 3, 2: 1, 3: 13}
	icmpxIPv6 = map[uint8]uint8{0: 0, 1: 4, 2: 3, 3: 1}
)

func (x *Reject) eval(st *state) (bool, error) {
	if st.p.Fragment() && (x.Type == rejectReset || skb.ChecksumOfAll(st.p.Proto()) || laterFragment(st.p)) {
		// nf_send_unreach, nf_send_reset: the checksum of a piece is never right.
		st.res.Code = rule.Drop
		st.act("drop (a fragment gets no answer)")
		return false, nil
	}
	if x.Type == rejectReset && st.p.Proto() != skb.TCP {
		// nf_send_reset answers TCP only; the packet is dropped all the same.
		st.res.Code = rule.Drop
		st.act("drop (a reset answers TCP only)")
		return false, nil
	}
	st.res.Code, st.res.With = rule.Reject, x.with(st.p.Family)
	st.act("reject with %s", st.res.With)
	return false, nil
}

func laterFragment(p *skb.Packet) bool {
	later, _ := p.LaterFragment()
	return later
}

// with names the answer as iptables does.
func (x *Reject) with(f skb.Family) string {
	if x.Type == rejectReset {
		return "tcp-reset"
	}
	names, codes, unnamed := rejectIPv4, icmpxIPv4, "icmp-code-%d"
	if f == skb.IPv6 {
		names, codes, unnamed = rejectIPv6, icmpxIPv6, "icmp6-code-%d"
	}
	code := x.Code
	if x.Type == rejectICMPX {
		code = codes[x.Code]
	}
	if s, ok := names[code]; ok {
		return s
	}
	return fmt.Sprintf(unnamed, code)
}
