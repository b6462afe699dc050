//go:build linux

package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// ErrRequest is in the chain of errors about a request that makes no sense.
var ErrRequest = errors.New("this cannot be probed")

const defaultTimeout = 2 * time.Second

// inFlight is how many connections are open at once.
const inFlight = 16

// maxDuration bounds a whole probe whose connections are all left without an answer.
const maxDuration = 45 * time.Second

// target is a checked request.
type target struct {
	proto   uint8
	source  netip.Addr // invalid: what the node chooses
	dst     netip.AddrPort
	count   int
	timeout time.Duration
	// user and group are those that connections are opened as; nil for the agent's own.
	user, group *uint32
}

func checked(r wire.ProbeRequest) (target, error) {
	t := target{
		source: r.Source.Unmap(), dst: netip.AddrPortFrom(r.Destination.Addr().Unmap(), r.Destination.Port()),
		count: max(r.Count, 1), timeout: time.Duration(r.TimeoutMillis) * time.Millisecond, user: r.User, group: r.Group,
	}
	if t.timeout == 0 {
		t.timeout = defaultTimeout
	}
	switch r.Protocol {
	case "tcp":
		t.proto = skb.TCP
	case "udp":
		t.proto = skb.UDP
	case "sctp":
		t.proto = skb.SCTP
	default:
		return t, fmt.Errorf("%w: protocol %q is neither tcp, udp nor sctp", ErrRequest, r.Protocol)
	}
	rounds := time.Duration((t.count + inFlight - 1) / inFlight)
	switch {
	case !t.dst.Addr().IsValid() || t.dst.Port() == 0:
		return t, fmt.Errorf("%w: the destination %s needs an address and a port", ErrRequest, t.dst)
	case t.dst.Addr().IsUnspecified() || t.dst.Addr().IsMulticast() || t.dst.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return t, fmt.Errorf("%w: %s is not the address of one host", ErrRequest, t.dst.Addr())
	case t.source.IsValid() && t.source.Is4() != t.dst.Addr().Is4():
		return t, fmt.Errorf("%w: source %s and destination %s are not of one address family", ErrRequest, t.source, t.dst.Addr())
	case r.Count < 0 || t.count > wire.MaxProbes:
		return t, fmt.Errorf("%w: %d connections, not 1 to %d", ErrRequest, r.Count, wire.MaxProbes)
	case t.timeout < 0 || t.timeout > wire.MaxProbeTimeoutMillis*time.Millisecond:
		return t, fmt.Errorf("%w: a time limit of %s, not up to %d ms", ErrRequest, t.timeout, wire.MaxProbeTimeoutMillis)
	case rounds*t.timeout > maxDuration:
		return t, fmt.Errorf("%w: %d connections of %s may take longer than %s", ErrRequest, t.count, t.timeout, maxDuration)
	}
	return t, nil
}

// tuple is what the packets of a connection from src have at the start.
func (t target) tuple(src netip.AddrPort) skb.Tuple {
	return skb.Tuple{Proto: t.proto, Src: src, Dst: t.dst}
}
