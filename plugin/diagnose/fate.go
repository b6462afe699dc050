package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/owner"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: how connections end.
var (
	NoTranslation = Kind{
		ID: "no-translation", Severity: Error, Title: "not translated",
		Means: "Connections to the Service's address leave the node as they came: nothing translates them to an endpoint. They follow the default " +
			"route and are usually never answered.",
		Proven:     "The walk ends without a translation, though endpoints can be used.",
		Fix:        "see whether kube-proxy on the node runs and syncs, and what else writes rules there; restarting kube-proxy rewrites them",
		References: []string{"rancher/rke2#10469", "k3s-io/k3s#7542"},
		Explains:   []string{"flow-untranslated"},
	}
	RejectedThoughEndpoints = Kind{
		ID: "rejected-though-endpoints", Severity: Error, Title: "rejected",
		Means:      "Clients are refused at the node, though the Service has endpoints that could answer.",
		Proven:     "The walk ends at a rule that rejects, before any translation.",
		Fix:        "the rule that rejects stands in the evidence: if it is kube-proxy's, restart kube-proxy on the node; else ask who wrote it",
		References: []string{"kubernetes/kubernetes#102314"},
	}
	DroppedThoughEndpoints = Kind{
		ID: "dropped-though-endpoints", Severity: Error, Title: "dropped",
		Means:  "Connections vanish at the node, though the Service has endpoints that could answer. Clients wait until they give up.",
		Proven: "The walk ends at a rule or policy that drops, before any translation.",
		Fix:    "the rule that drops stands in the evidence: if it is kube-proxy's, restart kube-proxy on the node; else ask who wrote it",
	}
	StoppedAfterTranslation = Kind{
		ID: "stopped-after-translation", Severity: Error, Title: "blocked",
		Means: "The Service's rules choose an endpoint, and then another rule of the same node drops or rejects the packet on its way there: a network " +
			"policy, a host firewall, or a FORWARD policy.",
		Proven:     "The walk is translated to the endpoint, and a later hook of the kernel ends it.",
		Fix:        "the translation is right, and another rule stops the packet: the evidence names it; a network policy, a firewall or a FORWARD policy is the usual owner",
		References: []string{"kubernetes/kubernetes#39823", "kubernetes/kubernetes#59656", "projectcalico/calico#2088"},
	}
	DroppedOnCondition = Kind{
		ID: "dropped-on-condition", Severity: Warning, Title: "may be dropped",
		Means:  "Whether a connection passes depends on something that the state alone does not settle: a rate limit, a quota, the time of day, the payload.",
		Proven: "A branch of the walk under a stated condition ends in a drop or a reject.",
		Fix:    "the evidence names the rule and its condition",
	}
	NotRejected = Kind{
		ID: "not-rejected", Severity: Warning, Title: "not refused",
		Means:      "The Service has no usable endpoint, and clients are not refused at once but wait until they give up.",
		Proven:     "The walk of a Service without endpoints ends in a drop, or leaves the node untranslated.",
		Fix:        "without endpoints clients should be refused at once, and here they wait; see whether kube-proxy on the node runs and syncs",
		References: []string{"kubernetes/kubernetes#60124", "kubernetes/kubernetes#78994"},
		Explains:   []string{"flow-untranslated"},
	}
	NotDropped = Kind{
		ID: "not-dropped", Severity: Warning, Title: "not kept local",
		Means:    "A traffic policy Local or a source range asks for a drop on this node, and the packet goes on.",
		Proven:   "The walk goes on untranslated where kube-proxy would drop it.",
		Fix:      "see whether kube-proxy on the node runs and syncs; restarting it rewrites its rules",
		Explains: []string{"flow-untranslated"},
	}
	TranslatedThoughNot = Kind{
		ID: "translated-unexpectedly", Severity: Warning, Title: "translated",
		Means:  "The node translates an address that it should leave alone: the Service belongs to another proxy, or the load balancer's address has ipMode Proxy.",
		Proven: "The walk is translated, and the API says that kube-proxy has nothing to do with the address.",
		Fix:    "the rules of this Service should not be there: see the Service's labels and ipMode, and restart kube-proxy on the node",
	}
)

func fateFamily() Family {
	return Family{Name: "How connections end", Kinds: []Kind{
		NoTranslation, RejectedThoughEndpoints, DroppedThoughEndpoints, StoppedAfterTranslation, DroppedOnCondition, NotRejected, NotDropped, TranslatedThoughNot,
	}}
}

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
			d.evidence = append(d.evidence, saidAll(o.Conditions)...)
		}
		if d.kind.ID == NoTranslation.ID && survey.ModeOf(n.Describe, w.Path.Family) == intent.UnknownMode {
			d.evidence = append(d.evidence, said("no active rules of kube-proxy for %s were found on the node", w.Path.Family))
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
		if n := len(o.Path); n > 0 && owner.CarriesOutPolicies(ownerOf(hopAt(w.Trace, o.Path[n-1]))) {
			d.severity = Warning // a network policy may mean to
		}
		if len(o.Conditions) > 0 {
			d.kind = DroppedOnCondition
			d.evidence = append(d.evidence, saidAll(o.Conditions)...)
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
