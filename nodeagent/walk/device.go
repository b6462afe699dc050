package walk

import (
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// Hooks of a network device (enum nf_dev_hooks), and inet's ingress (enum nf_inet_hooks).
const (
	netdevIngress = 0
	netdevEgress  = 1
	inetIngress   = 5
)

// ingress passes the chains on the input interface, and says what it cannot know about a bridge.
func (w *walk) ingress(b *branch, next func(*branch)) {
	w.device(b, b.p.In, netdevIngress, next)
}

// egress passes the chains on the output interface.
func (w *walk) egress(b *branch, next func(*branch)) {
	w.device(b, b.p.Out, netdevEgress, next)
}

func (w *walk) device(b *branch, name string, hook uint32, next func(*branch)) {
	all, err := w.deviceChains()
	if err != nil {
		w.fail(err)
		return
	}
	var chains []nftables.Chain
	for _, c := range all {
		switch {
		case c.Family == node.NFTNetdev && c.Hook == hook, c.Family == node.NFTInet && c.Hook == inetIngress && hook == netdevIngress:
			if slices.Contains(c.Devices, name) {
				chains = append(chains, c)
			}
		}
	}
	programs, err := w.programs(name, hook == netdevEgress)
	if err != nil {
		w.fail(err)
		return
	}
	var behind []function
	bridge := ""
	if hook == netdevIngress && b.p.PhysIn == "" {
		if bridge, err = w.bridgeChains(name); err != nil {
			w.fail(err)
			return
		}
	}
	if bridge != "" {
		behind = append(behind, function{name: bridge, run: func(w *walk, b *branch, next func(*branch)) { w.unmodelled(b, bridge, next) }})
	}
	if len(programs)+len(chains)+len(behind) == 0 {
		next(b)
		return
	}
	was := b.p.Hook
	b.p.Hook = skb.Ingress
	if hook == netdevEgress {
		b.p.Hook = skb.Egress
	}
	w.passAll(b, programs, func(b *branch) {
		w.passChains(b, chains, func(b *branch) {
			w.passAll(b, behind, func(b *branch) {
				b.p.Hook = was
				next(b)
			})
		})
	})
}

// programs are the programs and filters on an interface outside netfilter. None of them is modelled.
func (w *walk) programs(name string, egress bool) ([]function, error) {
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(links, func(l node.Link) bool { return l.Name == name })
	if i < 0 {
		return nil, nil
	}
	names, err := w.ns.DevicePrograms(w.ctx, links[i].Index, egress)
	if err != nil {
		return nil, err
	}
	var out []function
	for _, n := range names {
		what := n + " on " + name
		out = append(out, function{name: what, run: func(w *walk, b *branch, next func(*branch)) { w.unmodelled(b, what, next) }})
	}
	return out, nil
}

// bridgeChains names the bridge family's chains when a packet is said to come from a bridge device: by which port it came
// there, and so what these chains did with it, is not known.
func (w *walk) bridgeChains(name string) (string, error) {
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(links, func(l node.Link) bool { return l.Name == name && l.Kind == "bridge" }) {
		return "", nil
	}
	for _, h := range []skb.Hook{skb.Prerouting, skb.Input} {
		at, _, err := w.bridgeFunctions(h, wholeHook)
		if err != nil {
			return "", err
		}
		for _, g := range at {
			return g.sequences[0].functions[0].name + " on " + name, nil
		}
	}
	return "", nil
}

// unmodelled forks the walk at something that may drop or change the packet.
func (w *walk) unmodelled(b *branch, what string, next func(*branch)) {
	u := trace.Unknown{What: what, Where: b.p.Hook.String()}
	dropped := b.clone()
	dropped.assume(rule.Assumption{Unknown: &u, Words: what + " drops it"})
	w.hop(dropped, trace.Hop{Hook: b.p.Hook.String(), Action: "not modelled: " + what})
	w.end(dropped, end{verdict: trace.Dropped, reason: what + " may drop it"})
	b.assume(rule.Assumption{Unknown: &u, Words: what + " drops it", Negation: true})
	next(b)
}
