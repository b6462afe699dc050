package diagnose

import (
	"math/big"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// KernelShare is the part of new connections that the kernel translates to one endpoint.
type KernelShare struct {
	Endpoint netip.AddrPort
	// Probability is its share; nil when a condition decides about part of it.
	Probability *big.Rat
	// Masqueraded is true when the client's address is replaced on some branch to it.
	Masqueraded bool
	// Stopped is true when every branch to it ends in a drop or a reject.
	Stopped bool
	// Listening is true when a socket takes the packet on some branch to it, and Deaf when none does on some branch.
	Listening bool
	Deaf      bool
}

// view sorts the outcomes of a walk by what they mean.
type view struct {
	// shares are the endpoints that connections are translated to, in the order of the outcomes.
	shares []KernelShare
	// translated and plain are indexes of outcomes: with another destination than the packet had, and with the same.
	translated []int
	plain      []int
	// sidecar are those that the client's own pod redirects to a proxy in it, before any node sees the packet.
	sidecar []int
	// unknown are the outcomes that the engine could not determine.
	unknown []int
}

func viewOf(m *intent.Model, w *survey.Walk) view {
	var v view
	at := map[netip.AddrPort]int{}
	for i := range w.Trace.Outcomes {
		o := &w.Trace.Outcomes[i]
		if journey.TakenBySidecar(w.Client, w.Trace, o) {
			v.sidecar = append(v.sidecar, i)
			continue
		}
		dst := EndpointOf(m, w, o)
		if o.Verdict == trace.Undetermined {
			v.unknown = append(v.unknown, i)
		}
		if dst == w.Destination || !dst.IsValid() {
			if o.Verdict != trace.Undetermined {
				v.plain = append(v.plain, i)
			}
			continue
		}
		v.translated = append(v.translated, i)
		k, seen := at[dst]
		if !seen {
			k = len(v.shares)
			at[dst] = k
			v.shares = append(v.shares, KernelShare{Endpoint: dst, Probability: new(big.Rat), Stopped: true})
		}
		s := &v.shares[k]
		if o.Probability == nil {
			s.Probability = nil
		} else if s.Probability != nil {
			s.Probability = new(big.Rat).Add(s.Probability, o.Probability.Rat())
		}
		s.Masqueraded = s.Masqueraded || o.Masqueraded
		s.Listening, s.Deaf = s.Listening || o.Verdict == trace.Delivered, s.Deaf || Deaf(o)
		s.Stopped = s.Stopped && (o.Verdict == trace.Dropped || o.Verdict == trace.Rejected)
	}
	return v
}

func (v view) share(ep netip.AddrPort) *KernelShare {
	for i := range v.shares {
		if v.shares[i].Endpoint == ep {
			return &v.shares[i]
		}
	}
	return nil
}
