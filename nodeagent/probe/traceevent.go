//go:build linux

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// msgTrace is the type of a trace event: NFT_MSG_TRACE of the subsystem nftables.
const msgTrace = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_TRACE

// Types of trace events (enum nft_trace_types).
const (
	tracePolicy = 1
	traceReturn = 2
	traceRule   = 3
)

// Verdicts of netfilter (include/uapi/linux/netfilter.h).
const (
	nfDrop   = 0
	nfAccept = 1
	nfStolen = 2
	nfQueue  = 3
	nfRepeat = 4
)

// event is one NFT_MSG_TRACE message (net/netfilter/nf_tables_trace.c).
type event struct {
	id           uint32
	family       node.NFTFamily
	table, chain string
	handle       uint64
	typ          uint32
	verdict      string
	// network and transport are the packet's headers, as far as the kernel sends them; only the first event of a base
	// chain has them.
	network, transport []byte
}

var errEvent = errors.New("malformed trace event")

// decodeEvent reads a message behind its netlink header. The result holds parts of data.
func decodeEvent(data []byte) (event, error) {
	if len(data) < 4 {
		return event{}, fmt.Errorf("%w: %d bytes", errEvent, len(data))
	}
	e := event{family: node.NFTFamily(data[0])}
	policy := ""
	err := nlattr.Each(data[4:], func(typ uint16, b []byte) error {
		var err error
		switch typ {
		case unix.NFTA_TRACE_TABLE:
			e.table = nlattr.Text(b)
		case unix.NFTA_TRACE_CHAIN:
			e.chain = nlattr.Text(b)
		case unix.NFTA_TRACE_RULE_HANDLE:
			if len(b) < 8 {
				return fmt.Errorf("%w: a rule handle of %d bytes", errEvent, len(b))
			}
			e.handle = binary.BigEndian.Uint64(b)
		case unix.NFTA_TRACE_TYPE:
			e.typ, err = number(b)
		case unix.NFTA_TRACE_ID:
			e.id, err = number(b)
		case unix.NFTA_TRACE_VERDICT:
			e.verdict, err = verdict(b)
		case unix.NFTA_TRACE_POLICY:
			var code uint32
			code, err = number(b)
			policy = verdictName(int32(code), "")
		case unix.NFTA_TRACE_NETWORK_HEADER:
			e.network = b
		case unix.NFTA_TRACE_TRANSPORT_HEADER:
			e.transport = b
		}
		return err
	})
	if e.typ == tracePolicy {
		e.verdict = policy
	}
	return e, err
}

func number(b []byte) (uint32, error) {
	if len(b) < 4 {
		return 0, fmt.Errorf("%w: a number of %d bytes", errEvent, len(b))
	}
	return binary.BigEndian.Uint32(b), nil
}

func verdict(b []byte) (string, error) {
	var code uint32
	chain := ""
	err := nlattr.Each(b, func(typ uint16, b []byte) error {
		var err error
		switch typ {
		case unix.NFTA_VERDICT_CODE:
			code, err = number(b)
		case unix.NFTA_VERDICT_CHAIN:
			chain = nlattr.Text(b)
		}
		return err
	})
	return verdictName(int32(code), chain), err
}

// verdictName names a verdict as nft does.
func verdictName(code int32, chain string) string {
	switch code {
	case unix.NFT_CONTINUE:
		return "continue"
	case unix.NFT_BREAK:
		return "break"
	case unix.NFT_JUMP:
		return "jump " + chain
	case unix.NFT_GOTO:
		return "goto " + chain
	case unix.NFT_RETURN:
		return "return"
	}
	switch code & 0xff { // the upper bits of a queue verdict are its number
	case nfDrop:
		return "drop"
	case nfAccept:
		return "accept"
	case nfStolen:
		return "stolen"
	case nfQueue:
		return "queue"
	case nfRepeat:
		return "repeat"
	}
	return fmt.Sprintf("verdict %d", code)
}

// typeName names an event's type.
func (e event) typeName() string {
	switch e.typ {
	case tracePolicy:
		return "policy"
	case traceReturn:
		return "return"
	case traceRule:
		return "rule"
	}
	return fmt.Sprintf("type %d", e.typ)
}

// tuple is that of the packet's headers; ok is false when the event has none.
func (e event) tuple() (skb.Tuple, bool) { return headerTuple(e.network, e.transport) }

// headerTuple reads addresses, protocol and ports out of an IP header and the start of a transport header.
func headerTuple(network, transport []byte) (skb.Tuple, bool) {
	if len(network) == 0 || len(transport) < 4 {
		return skb.Tuple{}, false
	}
	var (
		t        skb.Tuple
		src, dst netip.Addr
	)
	switch {
	case network[0]>>4 == 4 && len(network) >= 20:
		t.Proto = network[9]
		src, dst = netip.AddrFrom4([4]byte(network[12:16])), netip.AddrFrom4([4]byte(network[16:20]))
	case network[0]>>4 == 6 && len(network) >= 40:
		t.Proto = network[6]
		src, dst = netip.AddrFrom16([16]byte(network[8:24])), netip.AddrFrom16([16]byte(network[24:40]))
	default:
		return skb.Tuple{}, false
	}
	t.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(transport))
	t.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(transport[2:]))
	return t, true
}
