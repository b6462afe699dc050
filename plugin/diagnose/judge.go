package diagnose

import (
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// judge lists how a walk differs from an expectation; nothing means that they agree.
func judge(m *intent.Model, n *survey.Node, w *survey.Walk, v view, e intent.Expectation) []draft {
	out := undetermined(w, v)
	switch e.Fate {
	case intent.Translated:
		out = append(out, checkPlain(n, w, v, e)...)
		out = append(out, checkEndpoints(m, w, v, e)...)
		out = append(out, checkStopped(m, w, v)...)
		out = append(out, checkMasquerade(m, w, v, e)...)
	case intent.Rejected:
		out = append(out, checkUnexpected(m, w, v, e)...)
		out = append(out, checkRejected(w, v)...)
	case intent.Dropped:
		out = append(out, checkUnexpected(m, w, v, e)...)
		out = append(out, checkDropped(w, v)...)
		if len(out) == 0 {
			out = checkAskedFor(m, w)
		}
	case intent.Untouched:
		out = append(out, checkUntouched(w, v, e)...)
	}
	return out
}

// portion says how much of the connections an outcome takes, at the start of a sentence.
func portion(o *trace.Outcome) string {
	switch {
	case o.Probability == nil:
		return "some connections"
	case o.Probability.String() == "1":
		return "connections"
	default:
		return "a part of the connections (" + Fraction(o.Probability.Rat()) + ")"
	}
}

// known finds an endpoint of the port by its address, whatever its state.
func known(m *intent.Model, p intent.AccessPath, a netip.AddrPort) (intent.Endpoint, bool) {
	for _, e := range m.Ports[p.PortIndex].Endpoints {
		if e.Address == a {
			return e, true
		}
	}
	return intent.Endpoint{}, false
}

// endpointName is the address with its pod, if it has one.
func endpointName(e intent.Endpoint) string {
	if e.Pod == "" {
		return e.Address.String()
	}
	return fmt.Sprintf("%s (pod %s)", e.Address, e.Pod)
}
