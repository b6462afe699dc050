package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

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
				d.kind = NotMasqueraded
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
