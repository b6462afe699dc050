package diagnose

import (
	"net/netip"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// EndpointOf is the address that a packet was translated to on its way to an outcome. It is the outcome's destination,
// unless the pod that got the packet redirects it once more, to a sidecar: then it is what came to the pod.
func EndpointOf(m *intent.Model, w *survey.Walk, o *trace.Outcome) netip.AddrPort {
	dst := plainAddress(o.Destination)
	if _, ok := known(m, w.Path, dst); ok || dst == w.Destination || !Redirected(w.Trace, o) {
		return dst
	}
	if n := len(o.Tracked); n > 0 && o.Tracked[n-1].Namespace != hostNamespace {
		return plainAddress(o.Tracked[n-1].Destination)
	}
	for _, e := range m.Ports[w.Path.PortIndex].Endpoints {
		if e.Address.Addr() == dst.Addr() {
			return e.Address
		}
	}
	return dst
}

// hostNamespace is the namespace that a hop in the node's own network has.
const hostNamespace = "host"

// Redirected reports whether the pod where an outcome ends sent the packet to another of its own ports.
func Redirected(t *trace.Trace, o *trace.Outcome) bool {
	end := lastOf(t, o)
	if end == nil || end.Namespace == "" || end.Namespace == hostNamespace {
		return false
	}
	for i := len(o.Path) - 1; i >= 0; i-- {
		h := hopAt(t, o.Path[i])
		if h == nil || h.Node != end.Node || h.Namespace != end.Namespace {
			return false
		}
		if strings.HasPrefix(h.Action, "redirect to") || strings.HasPrefix(h.Action, "dnat to") {
			return true
		}
	}
	return false
}

// lastOf is the last step of an outcome; nil if it has none.
func lastOf(t *trace.Trace, o *trace.Outcome) *trace.Hop {
	if len(o.Path) == 0 {
		return nil
	}
	return hopAt(t, o.Path[len(o.Path)-1])
}

func plainAddress(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
