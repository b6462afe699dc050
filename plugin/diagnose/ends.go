package diagnose

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: what happens at the endpoint, and on the way back.
var (
	TargetPortNotListening = Kind{
		ID: "target-port-not-listening", Severity: Error, Title: "nobody listens",
		Means:  "Connections reach an endpoint, and no process listens there on the target port, so that the pod itself refuses them.",
		Proven: "The walk goes on into the pod, and no socket of it takes the packet. What the pod does listen on is the evidence.",
		Fix:    "compare the Service's targetPort with the port that the application listens on, and see whether it runs: kubectl exec POD -- ss -lntu",
	}
	ListensOnLoopbackOnly = Kind{
		ID: "listens-on-loopback-only", Severity: Error, Title: "loopback only",
		Means:  "The application listens on 127.0.0.1 or ::1 only: it takes connections from within its own pod and refuses all others.",
		Proven: "The walk goes on into the pod, where a socket has the port, bound to a loopback address.",
		Fix:    "let the application listen on all addresses (0.0.0.0 or ::) instead of 127.0.0.1 or ::1",
	}
	ReplyNotTranslated = Kind{
		ID: "reply-not-translated", Severity: Error, Title: "bad reply",
		Means: "The endpoint's answer does not pass the node that translated the connection, so it comes from an address that the client does not know, " +
			"and is refused.",
		Proven: "The reply is walked too, from the endpoint back to the client, and meets no connection tracking entry that translates it.",
		Fix: "the reply must pass the node that translated the connection: masquerade the source there, route the reply that way, or, on one bridge, set " +
			"net.bridge.bridge-nf-call-iptables to 1",
		References: []string{"kubernetes/kubernetes#38802", "kubernetes/kubernetes#127031"},
	}
	ReplyDropped = Kind{
		ID: "reply-dropped", Severity: Error, Title: "reply lost",
		Means:  "The connection reaches the endpoint, and its answer is lost on the way back.",
		Proven: "The reply is walked too, from the endpoint back to the client, and ends on the way.",
		Fix:    "the evidence names what stops the reply: a rule, a reverse path filter or a missing route back to the client",
	}
	AsymmetricPath = Kind{
		ID: "asymmetric-path", Severity: Info, Title: "asymmetric",
		Means:  "The answer comes back by another way than the connection went. It arrives, and whatever keeps state on one of the ways sees half of it.",
		Proven: "The walks of the packet and of its reply pass different nodes or interfaces.",
		Fix:    "it works as long as nothing on either way keeps state; see the routes of both nodes if connections hang later",
	}
)

func endsFamily() Family {
	return Family{Name: "The endpoint and the way back", Kinds: []Kind{TargetPortNotListening, ListensOnLoopbackOnly, ReplyNotTranslated, ReplyDropped, AsymmetricPath}}
}

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
		d := draft{kind: TargetPortNotListening, on: endNode(w, o), subject: to.String(), evidence: []Evidence{value("socket at "+to.String(), o.Reason, "%s", socketText(w.Trace, o))}}
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
			d.evidence = []Evidence{value("reply of "+to.String(), r.Why, "the reply: %s", r.Why)}
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
func undoing(o *trace.Outcome) []Evidence {
	var out []Evidence
	for _, e := range o.Tracked {
		if e.ReplySource != e.Destination || e.ReplyDestination.Addr() != e.Source.Addr() {
			entry := said("conntrack entry on %s: %s -> %s, replies %s -> %s", e.Node, e.Source, e.Destination, e.ReplySource, e.ReplyDestination)
			entry.Flow = &wire.Flow{Protocol: e.Protocol, Source: e.Source, Destination: e.Destination, ReplySource: e.ReplySource, ReplyDestination: e.ReplyDestination}
			out = append(out, entry)
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
