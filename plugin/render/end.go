package render

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
)

// ending says where a branch ends: which address it goes to, and what happens there.
type ending struct {
	// to is the endpoint with its pod and node; empty when the destination was not translated.
	to string
	// what happens at the end, and on the way there.
	what  string
	style style
}

// endOfBranch says where a branch ends.
func endOfBranch(m *intent.Model, c *diagnose.Comparison, index int, wide bool) ending {
	o := &c.Walk.Trace.Outcomes[index]
	t := c.Walk.Trace
	if journey.TakenBySidecar(c.Walk.Client, t, o) {
		return sidecarEnd(c, o)
	}
	e := ending{to: destinationText(m, c, o)}
	way := wayText(t, o)
	switch o.Verdict {
	case trace.Undetermined:
		what := o.Reason
		if len(o.Unknown) > 0 {
			what = o.Unknown[0].What + atWhere(o.Unknown[0].Where)
		}
		e.what, e.style = way+"could not tell: "+what, yellow
		return e
	case trace.Rejected:
		e.what, e.style = strings.TrimSpace(fmt.Sprintf("%srejected with %s  %s", way, o.RejectWith, o.Reason)), wanted(c, intent.Rejected)
		return e
	case trace.Dropped:
		e.what, e.style = strings.TrimSpace(way+"dropped  "+o.Reason), wanted(c, intent.Dropped)
		return e
	}
	switch k := slices.IndexFunc(c.Walk.Stops, func(s journey.Stop) bool { return s.Outcome == index }); {
	case k >= 0:
		stop := c.Walk.Stops[k]
		e.what, e.style = fmt.Sprintf("%s%s to %s%s, which could not be read: %s", way, leaves(o), stop.Node, sourceText(c, o, wide), stop.Why), yellow
		if stop.Bounded {
			e.what, e.style = fmt.Sprintf("%s%s to %s%s, not followed: %s", way, leaves(o), stop.Node, sourceText(c, o, wide), stop.Why), plain
		}
		return e
	case o.Verdict == trace.Forwarded:
		e.what = way + leaves(o)
		if o.Reason != "" && wide {
			e.what += ": " + o.Reason
		}
	case o.Verdict == trace.Delivered:
		e.what = way + "delivered" + listener(t, o)
		if l := o.Listener; l != nil && l.Full {
			e.what, e.style = e.what+fmt.Sprintf(", its queue is full (%d of %d)", l.Queue, l.QueueMax), yellow
		}
	case diagnose.Deaf(o):
		e.what, e.style = way+"refused: "+o.Reason, red
	default:
		e.what = way + ownStack(t, o)
	}
	if e.to == "" {
		if e.what = "not translated, " + e.what; e.style == plain {
			e.style = wanted(c, intent.Untouched)
		}
		return e
	}
	e.what += sourceText(c, o, wide)
	return e
}

// sidecarEnd is the end of a packet that its own pod redirects to a proxy.
func sidecarEnd(c *diagnose.Comparison, o *trace.Outcome) ending {
	e := ending{what: fmt.Sprintf("the pod's sidecar takes it first (port %d%s) and connects by itself", o.Destination.Port(), process(c.Walk.Trace, o))}
	if diagnose.Deaf(o) {
		e.what, e.style = fmt.Sprintf("redirected in the pod to port %d: %s", o.Destination.Port(), o.Reason), red
	}
	return e
}

func ownStack(t *trace.Trace, o *trace.Outcome) string {
	if h := lastHop(t, o); h != nil && h.Namespace != "" && h.Namespace != "host" {
		return "in the pod's stack"
	}
	return "this node's own stack"
}

func leaves(o *trace.Outcome) string {
	if o.Out == "" {
		return "forwarded"
	}
	return "by " + o.Out
}

// wayText names the nodes that the packet crosses to: "via vxlan to node2, ".
func wayText(t *trace.Trace, o *trace.Outcome) string {
	var b strings.Builder
	for _, i := range o.Path {
		if i >= 0 && i < len(t.Hops) && t.Hops[i].Hook == "node" {
			b.WriteString(t.Hops[i].Action + ", ")
		}
	}
	return b.String()
}

// listener is who takes the packet, as far as the node could tell: ", listening (pid 812 /server)".
func listener(t *trace.Trace, o *trace.Outcome) string {
	sidecar := ""
	if diagnose.Redirected(t, o) {
		sidecar = fmt.Sprintf(" to the sidecar on port %d", o.Destination.Port())
	}
	p := process(t, o)
	if p == "" {
		return sidecar
	}
	return sidecar + ", listening (" + strings.TrimPrefix(p, ", ") + ")"
}

// process is the process that the last step found at the socket, after a comma; empty if it found none.
func process(t *trace.Trace, o *trace.Outcome) string {
	h := lastHop(t, o)
	if h == nil || h.Hook != "socket" {
		return ""
	}
	_, text, ok := strings.Cut(h.Says, "(")
	if !ok {
		return ""
	}
	return ", " + strings.TrimSuffix(text, ")")
}

func lastHop(t *trace.Trace, o *trace.Outcome) *trace.Hop {
	if len(o.Path) == 0 {
		return nil
	}
	if i := o.Path[len(o.Path)-1]; i >= 0 && i < len(t.Hops) {
		return &t.Hops[i]
	}
	return nil
}

func sourceText(c *diagnose.Comparison, o *trace.Outcome, wide bool) string {
	if !o.Masqueraded || !wide && c.Walk.Client.Kind == intent.FromNode {
		return ""
	}
	text := ", masq"
	if c.Walk.Client.Source == dstAddr(o) {
		text = ", hairpin"
	}
	if a := o.Source.Addr(); wide && a.IsValid() {
		text += " as " + a.String()
	}
	return text
}

func dstAddr(o *trace.Outcome) netip.Addr { return o.Destination.Addr().Unmap() }

// wanted colours an end red unless it is the one that ought to be.
func wanted(c *diagnose.Comparison, f intent.Fate) style {
	if c.Expect.Fate == f {
		return plain
	}
	return red
}

// destinationText is the endpoint of a branch with its pod and node; empty when the destination was not translated.
func destinationText(m *intent.Model, c *diagnose.Comparison, o *trace.Outcome) string {
	dst := diagnose.EndpointOf(m, c.Walk, o)
	if dst == c.Walk.Destination || !dst.IsValid() {
		return ""
	}
	for _, e := range m.Ports[c.Walk.Path.PortIndex].Endpoints {
		if e.Address != dst {
			continue
		}
		name := e.Pod
		if name == "" {
			name = e.State()
		}
		return fmt.Sprintf("%s  %s on %s", dst, short(podTail(name), 24), orDash(e.Node))
	}
	return fmt.Sprintf("%s  no endpoint of the Service", dst)
}

// podTail keeps a long pod name's end, which tells replicas apart.
func podTail(name string) string {
	r := []rune(name)
	if len(r) <= 22 {
		return name
	}
	return "…" + string(r[len(r)-21:])
}

func atWhere(where string) string {
	if where == "" {
		return ""
	}
	return " at " + where
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
