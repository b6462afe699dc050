package diagnose

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: which endpoints the kernel chooses from, and with which shares.
var (
	EndpointMissing = Kind{
		ID: "endpoint-missing-in-kernel", Severity: Error, Title: "endpoint missing",
		Means: "An endpoint that the API lists as usable gets no connection on the node: the node's rules do not have it. The other endpoints " +
			"carry its load, and on a node where it should be the only one nothing works.",
		Proven:     "The packet is walked through the node's live rules, and no branch is translated to the endpoint. The rules that are there are the evidence.",
		Fix:        "see whether kube-proxy on the node runs and syncs (its log, :10256/healthz); restarting it rewrites its rules",
		References: []string{"kubernetes/kubernetes#28674", "kubernetes/kubernetes#38372", "kubernetes/kubernetes#67875"},
	}
	EndpointNotInAPI = Kind{
		ID: "endpoint-not-in-api", Severity: Error, Title: "stale endpoint",
		Means: "Connections are translated to an address that is no endpoint of the Service: a pod that is gone, or one that another " +
			"pod's address belongs to by now. Clients of that share time out, are refused, or reach the wrong application.",
		Proven:     "A branch of the walk is translated to an address that stands in no EndpointSlice of the Service.",
		Fix:        "see whether kube-proxy on the node runs and syncs (its log, :10256/healthz); restarting it rewrites its rules",
		Explains:   []string{"target-port-not-listening", "listens-on-loopback-only", "stopped-after-translation", "reply-dropped", "reply-not-translated"},
		References: []string{"kubernetes/kubernetes#28674", "kubernetes/kubernetes#51445", "kubernetes/kubernetes#76338"},
	}
	EndpointNotEligible = Kind{
		ID: "endpoint-not-eligible", Severity: Warning, Title: "wrong endpoint",
		Means: "Connections go to an endpoint of the Service that this client should not be sent to from this node: it is not ready, a traffic policy " +
			"keeps to the node's own endpoints, or topology hints keep to the zone.",
		Proven: "A branch of the walk is translated to an endpoint that kube-proxy's rules exclude for this node and client.",
		Fix:    "compare the endpoint's conditions and hints with the node's rules; restarting kube-proxy on the node rewrites them",
	}
	UnevenProbability = Kind{
		ID: "uneven-probability", Severity: Warning, Title: "uneven",
		Means:  "The node chooses among the right endpoints, but not with equal shares, so that one carries more load than another.",
		Proven: "The exact probability of every branch is computed from the rules' statistic, numgen or map, and they differ by more than rounding.",
		Fix:    "the rules were changed by something else than kube-proxy, or were written in part; restarting kube-proxy on the node rewrites them",
	}
)

func endpointFamily() Family {
	return Family{Name: "Endpoints in the kernel", Kinds: []Kind{EndpointMissing, EndpointNotInAPI, EndpointNotEligible, UnevenProbability}}
}

// checkEndpoints compares the endpoints that ought to be used with those that are, and their shares.
func checkEndpoints(m *intent.Model, w *survey.Walk, v view, e intent.Expectation) []draft {
	out := checkUnexpected(m, w, v, e)
	if keptByAffinity(v, e) {
		return out
	}
	want := e.Endpoints()
	if len(v.shares) > 0 && len(v.unknown) == 0 && len(v.sidecar) == 0 { // without any share, the plain outcomes say it all
		for _, s := range e.Shares {
			if v.share(s.Endpoint.Address) == nil {
				out = append(out, draft{
					kind:    EndpointMissing,
					subject: s.Endpoint.Address.String(),
					sentence: fmt.Sprintf("no connection goes to endpoint %s, which is %s in the API",
						endpointName(s.Endpoint), s.Endpoint.State()),
					evidence: forks(w.Trace),
				})
			}
		}
	}
	if len(out) == 0 && len(v.plain) == 0 && len(v.sidecar) == 0 && len(v.unknown) == 0 && len(v.shares) == len(want) {
		out = append(out, checkEven(w, v)...)
	}
	return out
}

// keptByAffinity reports whether the walk shows a client that session affinity keeps with one right endpoint.
func keptByAffinity(v view, e intent.Expectation) bool {
	return e.Sticky && len(v.plain) == 0 && len(v.shares) == 1 && slices.Contains(e.Endpoints(), v.shares[0].Endpoint)
}

// checkUnexpected reports translations to addresses that the client ought not to be sent to.
func checkUnexpected(m *intent.Model, w *survey.Walk, v view, e intent.Expectation) []draft {
	var out []draft
	want := e.Endpoints()
	for _, s := range v.shares {
		if slices.Contains(want, s.Endpoint) {
			continue
		}
		share := ""
		if s.Probability != nil && s.Probability.Cmp(big.NewRat(1, 1)) != 0 {
			share = Fraction(s.Probability) + " of "
		}
		d := draft{subject: s.Endpoint.String(), evidence: rulesTo(m, w, s.Endpoint)}
		if ep, ok := known(m, w.Path, s.Endpoint); ok {
			d.kind = EndpointNotEligible
			d.sentence = fmt.Sprintf("%sconnections go to endpoint %s, which is %s and should not be used there%s",
				share, endpointName(ep), ep.State(), because(e.Why))
		} else {
			d.kind, d.about = EndpointNotInAPI, []string{d.subject}
			d.sentence = fmt.Sprintf("%sconnections go to %s, which is no endpoint of the Service in the API", share, s.Endpoint)
		}
		out = append(out, d)
	}
	return out
}

// checkEven compares the shares of the right endpoints with each other.
func checkEven(w *survey.Walk, v view) []draft {
	for _, s := range v.shares {
		if s.Probability == nil {
			return nil // a condition decides about it; no statement
		}
	}
	if Even(v.shares) {
		return nil
	}
	parts := make([]string, 0, len(v.shares))
	for _, s := range v.shares {
		parts = append(parts, s.Endpoint.String()+" gets "+Fraction(s.Probability))
	}
	slices.Sort(parts)
	if len(parts) > 6 {
		parts = append(parts[:6], "…")
	}
	return []draft{{
		kind:     UnevenProbability,
		sentence: fmt.Sprintf("the endpoints do not get equal shares: %s", strings.Join(parts, ", ")),
		evidence: forks(w.Trace),
	}}
}

// rulesTo are the last rules of the branches to one destination.
func rulesTo(m *intent.Model, w *survey.Walk, to netip.AddrPort) []Evidence {
	var out []Evidence
	for i := range w.Trace.Outcomes {
		o := &w.Trace.Outcomes[i]
		if EndpointOf(m, w, o) != to {
			continue
		}
		for _, k := range o.Path {
			if h := hopAt(w.Trace, k); h != nil && h.Rule != nil && strings.Contains(h.Action, "dnat") {
				out = append(out, hopOf(h))
			}
		}
		if len(out) == 0 {
			out = lastRule(w.Trace, o)
		}
	}
	return out
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}
