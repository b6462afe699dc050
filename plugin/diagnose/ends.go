package diagnose

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// Deaf reports whether an outcome comes to a stack where no socket takes it.
func Deaf(o *trace.Outcome) bool { return o.Verdict == trace.Local && o.Reason != "" }

// checkEnds reports packets that reach an endpoint, or the sidecar in front of it, where nobody listens for them.
func checkEnds(m *intent.Model, w *survey.Walk, v view) []draft {
	var out []draft
	for _, i := range append(append([]int{}, v.translated...), v.sidecar...) {
		o := &w.Trace.Outcomes[i]
		if !Deaf(o) {
			continue
		}
		to := EndpointOf(m, w, o)
		name := to.String()
		if e, ok := known(m, w.Path, to); ok {
			name = endpointName(e)
		}
		d := draft{kind: TargetPortNotListening, subject: to.String(), evidence: []string{socketText(w.Trace, o)}}
		dst := plainAddress(o.Destination)
		switch bound, onlyThere := boundElsewhere(o); {
		case Redirected(w.Trace, o):
			d.sentence = fmt.Sprintf("%s to %s are redirected in the pod to port %d, and %s: the sidecar that should take them does not", portion(o), name, dst.Port(), o.Reason)
		case onlyThere && bound.Addr().IsLoopback():
			d.kind = ListensOnLoopbackOnly
			d.sentence = fmt.Sprintf("%s reach endpoint %s, where the application listens on %s only: it takes connections from within its own pod and refuses all others", portion(o), name, bound)
		case onlyThere:
			d.sentence = fmt.Sprintf("%s reach endpoint %s, where the application listens on %s only, and are refused", portion(o), name, bound)
		default:
			d.sentence = fmt.Sprintf("%s reach endpoint %s, where nobody listens on port %d, and are refused", portion(o), name, dst.Port())
		}
		out = append(out, d)
	}
	return out
}

// socketText is the end at a stack as evidence: where it is, and what was found there.
func socketText(t *trace.Trace, o *trace.Outcome) string {
	h := lastOf(t, o)
	if h == nil || h.Node == "" {
		return o.Reason
	}
	if h.Namespace == hostNamespace {
		return h.Node + ": " + o.Reason
	}
	return h.Node + " in " + h.Namespace + ": " + o.Reason
}

// boundElsewhere reads where a socket listens instead, out of the reason for an end.
func boundElsewhere(o *trace.Outcome) (netip.AddrPort, bool) {
	text, ok := strings.CutPrefix(o.Reason, "a socket listens on ")
	if !ok {
		return netip.AddrPort{}, false
	}
	a, err := netip.ParseAddrPort(strings.TrimSuffix(text, " only"))
	return a, err == nil
}

// checkReplies reports replies that do not come back to the client as it expects them. A ClusterIP is not promised to
// clients outside: kube-proxy masquerades them only when it knows the pod range.
func checkReplies(m *intent.Model, w *survey.Walk) []draft {
	if w.Path.Kind == intent.ClusterIP && w.Client.Kind == intent.FromOutside {
		return nil
	}
	var out []draft
	for i := range w.Replies {
		r := &w.Replies[i]
		o := &w.Trace.Outcomes[r.Outcome]
		to := EndpointOf(m, w, o)
		d := draft{subject: to.String()}
		switch r.Return {
		case journey.Lost:
			d.kind, d.sentence = ReplyDropped, fmt.Sprintf("the reply of %s does not come back to the client: %s", to, r.Why)
		case journey.Untranslated:
			d.kind, d.sentence = ReplyNotTranslated, fmt.Sprintf("the reply of %s is not translated back, and the client refuses it or gets none: %s", to, r.Why)
			d.evidence = undoing(o)
		case journey.Asymmetric:
			d.kind, d.sentence = AsymmetricPath, fmt.Sprintf("the reply of %s takes another way: %s", to, r.Why)
		default:
			continue
		}
		if r.Trace != nil && r.Return == journey.Lost {
			for k := range r.Trace.Outcomes {
				d.evidence = append(d.evidence, endOf(r.Trace, &r.Trace.Outcomes[k])...)
			}
		}
		out = append(out, d)
	}
	return out
}

// undoing are the entries that the way there made and that would translate the reply back, if it met them.
func undoing(o *trace.Outcome) []string {
	var out []string
	for _, e := range o.Tracked {
		if e.ReplySource != e.Destination || e.ReplyDestination.Addr() != e.Source.Addr() {
			out = append(out, fmt.Sprintf("conntrack entry on %s: %s -> %s, replies %s -> %s", e.Node, e.Source, e.Destination, e.ReplySource, e.ReplyDestination))
		}
	}
	return out
}

// unfollowed reports whether a part of a journey could not be walked: the node it goes to could not be read, or what
// becomes of a reply could not be told. What was left out on purpose does not count.
func unfollowed(w *survey.Walk) bool {
	for _, s := range w.Stops {
		if !s.Bounded {
			return true
		}
	}
	for i := range w.Replies {
		if w.Replies[i].Return == journey.Unclear {
			return true
		}
	}
	return false
}
