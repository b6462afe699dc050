package walk

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// inetIngress is inet's hook of a network device (enum nf_inet_hooks); the others are node.DeviceIngress and DeviceEgress.
const inetIngress = 5

// ingress passes the chains on the input interface, and says what it cannot know about a bridge.
func (w *walk) ingress(b *branch, next func(*branch)) {
	w.device(b, b.p.In, node.DeviceIngress, next)
}

// egress passes the chains on the output interface.
func (w *walk) egress(b *branch, next func(*branch)) {
	w.device(b, b.p.Out, node.DeviceEgress, next)
}

func (w *walk) device(b *branch, name string, hook uint32, next func(*branch)) {
	link, known, err := w.link(name)
	if err != nil {
		w.fail(err)
		return
	}
	if !known {
		next(b)
		return
	}
	at, err := w.deviceHook(link, hook)
	if err != nil {
		w.fail(err)
		return
	}
	var behind []function
	bridge := ""
	if hook == node.DeviceIngress && b.p.PhysIn == "" {
		if bridge, err = w.bridgeChains(link); err != nil {
			w.fail(err)
			return
		}
	}
	if bridge != "" {
		behind = append(behind, function{name: bridge, run: func(w *walk, b *branch, next func(*branch)) { w.unmodelled(b, bridge, next) }})
	}
	if len(at.programs)+len(at.groups)+len(at.queue)+len(behind) == 0 {
		next(b)
		return
	}
	was := b.p.Hook
	back := func(b *branch) {
		b.p.Hook = was
		next(b)
	}
	if hook == node.DeviceEgress {
		b.p.Hook = skb.Egress
		w.passGroups(b, at.groups, func(b *branch) {
			w.passAll(b, at.programs, func(b *branch) { w.passAll(b, at.queue, back) })
		})
		return
	}
	b.p.Hook = skb.Ingress
	w.passAll(b, at.programs, func(b *branch) {
		w.passGroups(b, at.groups, func(b *branch) { w.passAll(b, behind, back) })
	})
}

// link returns an interface by its name.
func (w *walk) link(name string) (l node.Link, known bool, err error) {
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return node.Link{}, false, err
	}
	i := slices.IndexFunc(links, func(l node.Link) bool { return l.Name == name })
	if i < 0 {
		return node.Link{}, false, nil
	}
	return links[i], true, nil
}

// deviceHook is what a packet passes at a hook of a device: programs outside netfilter and netfilter's chains, on the way in
// in this order, on the way out in the other (__netif_receive_skb_core, __dev_queue_xmit), and there the queue at last.
type deviceHook struct {
	programs []function
	groups   []group
	queue    []function
}

type deviceKey struct {
	index int
	hook  uint32
}

func (w *walk) deviceHook(link node.Link, hook uint32) (*deviceHook, error) {
	k := deviceKey{link.Index, hook}
	if d, ok := w.deviceHooks[k]; ok {
		return d, nil
	}
	groups, err := w.deviceFunctions(link, hook)
	if err != nil {
		return nil, err
	}
	programs, err := w.programs(link, hook == node.DeviceEgress)
	if err != nil {
		return nil, err
	}
	d := &deviceHook{programs: programs, groups: groups}
	if hook == node.DeviceEgress {
		d.queue = qdisc(link)
	}
	if w.deviceHooks == nil {
		w.deviceHooks = map[deviceKey]*deviceHook{}
	}
	w.deviceHooks[k] = d
	return d, nil
}

// deviceFunctions returns what is registered at a hook of a device.
func (w *walk) deviceFunctions(link node.Link, hook uint32) ([]group, error) {
	groups, known, err := w.listedDevice(link, hook)
	if known || err != nil {
		return groups, err
	}
	all, err := w.deviceChains()
	if err != nil {
		return nil, err
	}
	var chains []nftables.Chain
	for _, c := range all {
		switch {
		case c.Family == node.NFTNetdev && c.Hook == hook, c.Family == node.NFTInet && c.Hook == inetIngress && hook == node.DeviceIngress:
			if slices.Contains(c.Devices, link.Name) {
				chains = append(chains, c)
			}
		}
	}
	return groupsOf(chains), nil
}

// listedDevice is deviceFunctions where the kernel lists its hooks.
func (w *walk) listedDevice(link node.Link, hook uint32) (groups []group, known bool, err error) {
	if w.unlisted || w.devicesUnlisted {
		return nil, false, nil
	}
	hooks, err := w.ns.DeviceHooks(w.ctx, link.Index, hook == node.DeviceEgress)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, false, err
	case err != nil:
		w.devicesUnlisted = true
		return nil, false, nil
	}
	return inOrder(hooks, &w.devicesUnlisted, func(fn node.HookFunction) (function, bool, error) { return w.deviceFunction(fn, hook) })
}

// deviceFunction is what a function at a device does. run is nil for that of a flow table, which lets the packets pass that
// open a flow.
func (w *walk) deviceFunction(fn node.HookFunction, hook uint32) (f function, known bool, err error) {
	switch {
	case fn.Kind == node.HookChain && fn.Family == node.NFTInet:
		return w.listedChain(fn, inetIngress, false)
	case fn.Kind == node.HookChain:
		return w.listedChain(fn, hook, false)
	case fn.Kind == node.HookBPF:
		return opaque(fn, "netfilter BPF program"), true, nil
	case strings.HasPrefix(fn.Name, "nf_flow_offload_"):
		return function{}, true, nil
	}
	return opaque(fn, "hook function "+fn.Name), true, nil
}

// programs are the programs and filters on an interface outside netfilter. None of them is modelled.
func (w *walk) programs(link node.Link, egress bool) ([]function, error) {
	names, err := w.ns.DevicePrograms(w.ctx, link.Index, egress)
	if err != nil {
		return nil, err
	}
	var out []function
	for _, n := range names {
		what := n + " on " + link.Name
		out = append(out, function{name: what, run: func(w *walk, b *branch, next func(*branch)) { w.unmodelled(b, what, next) }})
	}
	return out, nil
}

// bridgeChains names the bridge family's chains when a packet is said to come from a bridge device: by which port it came
// there, and so what these chains did with it, is not known.
func (w *walk) bridgeChains(link node.Link) (string, error) {
	if link.Kind != "bridge" {
		return "", nil
	}
	for _, h := range []skb.Hook{skb.Prerouting, skb.Input} {
		at, _, err := w.bridgeFunctions(h, wholeHook)
		if err != nil {
			return "", err
		}
		for _, g := range at {
			return g.sequences[0].functions[0].name + " on " + link.Name, nil
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
