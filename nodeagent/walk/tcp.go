package walk

import (
	"errors"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// TCP flags.
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
	flagURG = 0x20
)

// TCP states of conntrack (enum tcp_conntrack).
const (
	tcpSynSent  = 1
	tcpSynRecv  = 2
	tcpTimeWait = 7
	tcpClose    = 8
	tcpSynSent2 = 9
)

// segment is what conntrack's state machine sees of a TCP segment (enum tcp_bit_set).
type segment uint8

const (
	segmentSYN segment = iota
	segmentSYNACK
	segmentFIN
	segmentACK
	segmentRST
	segmentNone
)

// segmentOf classifies a segment by those flags that are known (get_conntrack_index).
func segmentOf(p *skb.Packet) segment {
	v, known := p.TCPFlags()
	v &= known
	switch {
	case v&flagRST != 0:
		return segmentRST
	case v&flagSYN != 0 && v&flagACK != 0:
		return segmentSYNACK
	case v&flagSYN != 0:
		return segmentSYN
	case v&flagFIN != 0:
		return segmentFIN
	case v&flagACK != 0:
		return segmentACK
	}
	return segmentNone
}

// senselessTCP reports whether a segment's flags are a combination that conntrack finds invalid in every state
// (tcp_valid_flags).
func senselessTCP(p *skb.Packet) bool {
	v, known := p.TCPFlags()
	if p.Proto() != skb.TCP || known&0x3f != 0x3f {
		return false
	}
	switch v & (flagFIN | flagSYN | flagRST | flagACK | flagURG) {
	case flagSYN, flagSYN | flagURG, flagSYN | flagACK, flagRST, flagRST | flagACK, flagFIN | flagACK, flagFIN | flagACK | flagURG, flagACK, flagACK | flagURG:
		return false
	}
	return true
}

// tcpStep is what conntrack does with a segment of a flow that it has.
type tcpStep uint8

const (
	// tcpGoesOn: the segment is one of the flow.
	tcpGoesOn tcpStep = iota
	// tcpInvalid: it is none of the flow, and rules see it as invalid.
	tcpInvalid
	// tcpReopens: the entry is deleted, and the segment opens a flow anew.
	tcpReopens
	// tcpMayReopen: one of the two; which, the entry does not tell.
	tcpMayReopen
)

// stepTCP is the part of nf_conntrack_tcp_packet that decides by flags and states (tcp_conntracks). Sequence numbers are
// taken for right: a segment out of the window would be invalid.
func stepTCP(c *skb.Conn, p *skb.Packet, reply bool) tcpStep {
	if senselessTCP(p) {
		return tcpInvalid
	}
	s, state := segmentOf(p), c.TCPState
	if _, known := p.TCPFlags(); state == 0 || known&(flagSYN|flagRST|flagACK) == 0 {
		return tcpGoesOn
	}
	closed := state == tcpTimeWait || state == tcpClose
	switch s {
	case segmentNone:
		return tcpInvalid
	case segmentSYN:
		if closed && (!reply || state == tcpTimeWait) {
			if c.TCPClosed {
				return tcpReopens
			}
			// Else the last segment must have been a reset from the same side, which the kernel does not tell.
			return tcpMayReopen
		}
		if reply && (state == tcpSynRecv || state == tcpClose) {
			return tcpInvalid
		}
	case segmentSYNACK:
		if !reply && state != tcpSynRecv && state != tcpSynSent2 {
			return tcpInvalid
		}
	case segmentFIN:
		if state == tcpSynSent || state == tcpSynSent2 {
			return tcpInvalid
		}
	case segmentACK:
		if !reply && (state == tcpSynSent || state == tcpSynSent2) {
			return tcpInvalid
		}
	}
	return tcpGoesOn
}

// opensTCP tells whether a segment that no entry fits opens a flow (tcp_new): a SYN, or in the middle of a connection an
// ACK unless net.netfilter.nf_conntrack_tcp_loose is 0.
func (w *walk) opensTCP(p *skb.Packet) (bool, error) {
	if senselessTCP(p) {
		return false, nil
	}
	switch segmentOf(p) {
	case segmentSYN:
		return true, nil
	case segmentACK:
		v, err := w.ns.Sysctl(w.ctx, "net/netfilter/nf_conntrack_tcp_loose")
		if errors.Is(err, node.ErrNotFound) {
			return true, nil
		}
		return v != "0", err
	}
	return false, nil
}
