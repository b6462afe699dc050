package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: what becomes of the client's address.
var (
	NotMasqueraded = Kind{
		ID: "not-masqueraded", Severity: Error, Title: "source kept",
		Means: "The node should put its own address in the place of the client's, and does not. The endpoint answers the client directly, past the node " +
			"that translated, and the client does not recognise the answer.",
		Proven:     "The walk reaches the endpoint with the client's address, where kube-proxy's rules ask for a masquerade.",
		Fix:        "replies will not come back through the node; see what removed the mark or the masquerade rule",
		Explains:   []string{"reply-not-translated", "reply-dropped"},
		References: []string{"kubernetes/kubernetes#36835", "tailscale/tailscale#591"},
	}
	SourceLost = Kind{
		ID: "source-lost", Severity: Warning, Title: "source lost",
		Means:  "externalTrafficPolicy Local promises endpoints the client's own address, and they see the node's.",
		Proven: "The walk is masqueraded, where the policy asks for the source to be kept.",
		Fix:    "externalTrafficPolicy Local should keep the client's address; something else on the node masquerades",
	}
)

func masqueradeFamily() Family {
	return Family{Name: "The client's address", Kinds: []Kind{NotMasqueraded, SourceLost}}
}

// checkMasquerade compares the fate of the client's address with what the policy asks for. Packets that this node's own
// stack takes never pass POSTROUTING, and the node's own packets have its address anyway.
func checkMasquerade(m *intent.Model, w *survey.Walk, v view, e intent.Expectation) []draft {
	if w.Client.Kind == intent.FromNode {
		return nil
	}
	var out []draft
	for _, i := range v.translated {
		o := &w.Trace.Outcomes[i]
		if o.Verdict != trace.Forwarded && o.Verdict != trace.Delivered && !Deaf(o) || inOwnStack(w, o) {
			continue
		}
		for _, s := range e.Shares {
			if s.Endpoint.Address != EndpointOf(m, w, o) {
				continue
			}
			d := draft{subject: s.Endpoint.Address.String(), evidence: lastRule(w.Trace, o)}
			switch {
			case s.Masquerade == intent.Masqueraded && !o.Masqueraded:
				d.kind, d.about = NotMasqueraded, []string{d.subject}
				d.sentence = fmt.Sprintf("connections from %s to endpoint %s keep the client's address, so that replies may miss the node",
					o.Source.Addr(), endpointName(s.Endpoint))
			case s.Masquerade == intent.SourceKept && o.Masqueraded:
				d.kind = SourceLost
				d.sentence = fmt.Sprintf("connections to endpoint %s lose the client's address, which externalTrafficPolicy Local should keep",
					endpointName(s.Endpoint))
			default:
				continue
			}
			out = append(out, d)
		}
	}
	return out
}

// inOwnStack reports whether an outcome ends in the stack of the client's node itself.
func inOwnStack(w *survey.Walk, o *trace.Outcome) bool {
	h := lastOf(w.Trace, o)
	return o.Verdict != trace.Forwarded && (h == nil || h.Node == w.Client.Node && h.Namespace == hostNamespace)
}
