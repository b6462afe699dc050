package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// checkPlain reports connections that ought to be translated and are not.
func checkPlain(n *survey.Node, w *survey.Walk, v view, e intent.Expectation) []draft {
	var out []draft
	for _, i := range v.plain {
		o := &w.Trace.Outcomes[i]
		d := draft{evidence: endOf(w.Trace, o)}
		usable := fmt.Sprintf("though %d endpoint%s can be used", len(e.Endpoints()), plural(len(e.Endpoints())))
		switch o.Verdict {
		case trace.Rejected:
			d.kind = RejectedThoughEndpoints
			d.sentence = fmt.Sprintf("%s are rejected (%s), %s", portion(o), o.RejectWith, usable)
		case trace.Dropped:
			d.kind = DroppedThoughEndpoints
			d.sentence = fmt.Sprintf("%s are dropped, %s", portion(o), usable)
		default:
			d.kind = NoTranslation
			d.sentence = fmt.Sprintf("%s are not translated, %s", portion(o), usable)
		}
		if len(o.Conditions) > 0 && (o.Verdict == trace.Dropped || o.Verdict == trace.Rejected) {
			d.kind = DroppedOnCondition
			d.evidence = append(d.evidence, o.Conditions...)
		}
		if d.kind.ID == NoTranslation.ID && survey.ModeOf(n.Describe, w.Path.Family) == intent.UnknownMode {
			d.evidence = append(d.evidence, fmt.Sprintf("no active rules of kube-proxy for %s were found on the node", w.Path.Family))
		}
		out = append(out, d)
	}
	return out
}

// checkStopped reports connections that are translated rightly and then dropped or rejected, on this node or another.
func checkStopped(m *intent.Model, w *survey.Walk, v view) []draft {
	var out []draft
	for _, i := range v.translated {
		o := &w.Trace.Outcomes[i]
		if o.Verdict != trace.Dropped && o.Verdict != trace.Rejected {
			continue
		}
		d := draft{
			kind:     StoppedAfterTranslation,
			subject:  EndpointOf(m, w, o).String(),
			sentence: fmt.Sprintf("%s are translated to %s and then %s%s", portion(o), EndpointOf(m, w, o), o.Verdict, elsewhere(w, o)),
			evidence: endOf(w.Trace, o),
		}
		if len(o.Conditions) > 0 {
			d.kind = DroppedOnCondition
			d.evidence = append(d.evidence, o.Conditions...)
		}
		out = append(out, d)
	}
	return out
}

// checkRejected reports packets to a Service without endpoints that nothing rejects.
func checkRejected(w *survey.Walk, v view) []draft {
	var out []draft
	for _, i := range v.plain {
		o := &w.Trace.Outcomes[i]
		if o.Verdict == trace.Rejected || o.Verdict == trace.Local && w.Path.Kind == intent.NodePort {
			continue // at a node's own address, its stack answers a closed port with a reset: refused as well
		}
		word := "leave untranslated" + by(o)
		if o.Verdict == trace.Dropped {
			word = "are dropped"
		}
		out = append(out, draft{
			kind:     NotRejected,
			sentence: fmt.Sprintf("%s %s, where they should be refused because no endpoint is usable", portion(o), word),
			evidence: endOf(w.Trace, o),
		})
	}
	return out
}

// checkDropped reports packets that a policy Local or a source range ought to stop and that go on untranslated. A reject
// in place of the drop is no difference: the connection fails as it should.
func checkDropped(w *survey.Walk, v view) []draft {
	var out []draft
	for _, i := range v.plain {
		o := &w.Trace.Outcomes[i]
		if o.Verdict == trace.Rejected || o.Verdict == trace.Dropped {
			continue
		}
		out = append(out, draft{
			kind:     NotDropped,
			sentence: fmt.Sprintf("%s go on untranslated%s, where they should be dropped%s", portion(o), by(o), because(w.Expect.Why)),
			evidence: endOf(w.Trace, o),
		})
	}
	return out
}

// checkUntouched reports translations of packets that kube-proxy should leave alone.
func checkUntouched(w *survey.Walk, v view, e intent.Expectation) []draft {
	if len(v.shares) == 0 {
		return nil
	}
	return []draft{{
		kind:     TranslatedThoughNot,
		sentence: fmt.Sprintf("connections to %s are translated to %s, and the node should leave them alone%s", w.Destination, v.shares[0].Endpoint, because(e.Why)),
		evidence: forks(w.Trace),
	}}
}

// elsewhere names the node where an outcome ends, if it is not the client's.
func elsewhere(w *survey.Walk, o *trace.Outcome) string {
	if h := lastOf(w.Trace, o); h != nil && h.Node != "" && h.Node != w.Client.Node {
		return " on " + h.Node
	}
	return ""
}

func by(o *trace.Outcome) string {
	if o.Out == "" {
		return ""
	}
	return " by " + o.Out
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}
