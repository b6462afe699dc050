package walk

import (
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// bridgePart is a part of what is registered at a hook of the bridge family: br_netfilter runs the IP hooks from a place
// among it.
type bridgePart uint8

const (
	wholeHook bridgePart = iota
	beforeIP
	behindIP
)

// brNetfilter is the priority of br_netfilter in the bridge hooks (NF_BR_PRI_BRNF); at forward it was one less before Linux
// 6.8 (net/bridge/br_netfilter_hooks.c).
const brNetfilter = 0

// side tells where a priority is as seen from br_netfilter: -1 before it, 1 behind it, 0 when that depends on what was
// registered first, or on the kernel.
func side(h skb.Hook, priority int32) int {
	lowest := int32(brNetfilter)
	if h == skb.Forward {
		lowest--
	}
	switch {
	case priority < lowest:
		return -1
	case priority > brNetfilter:
		return 1
	}
	return 0
}

// runsBehind tells whether what is registered behind br_netfilter runs when the IP hooks are done. br_nf_hook_thresh leaves
// out all functions of br_netfilter's priority and below, but at prerouting those that have not run yet (Linux 5.18).
func runsBehind(h skb.Hook, priority int32) bool { return h != skb.Forward || priority > brNetfilter }

// bridgeFunctions returns a part of what is registered at a hook of the bridge family, and, when a part is asked for, what
// may belong to either.
func (w *walk) bridgeFunctions(h skb.Hook, part bridgePart) (groups, open []group, err error) {
	groups, known, err := w.listedBridge(h, part)
	if known || err != nil {
		return groups, nil, err
	}
	all, err := w.allBaseChains()
	if err != nil {
		return nil, nil, err
	}
	var chains, undecided []nftables.Chain
	for _, c := range all {
		if c.Family != node.NFTBridge || c.Hook != uint32(h) {
			continue
		}
		switch s := side(h, c.Priority); {
		case part == wholeHook, part == beforeIP && s < 0, part == behindIP && s > 0:
			chains = append(chains, c)
		case s == 0:
			undecided = append(undecided, c)
		}
	}
	if undecided, err = w.withEffect(undecided); err != nil {
		return nil, nil, err
	}
	return groupsOf(chains), groupsOf(undecided), nil
}

// sideOfBridgeNetfilter goes on with what was assumed about the side of br_netfilter that some functions are on, or with both.
func (w *walk) sideOfBridgeNetfilter(b *branch, bridge node.Link, h skb.Hook, open []group, next func(b *branch, isBefore bool)) {
	first := open[0].sequences[0].functions[0]
	where := "bridge " + h.String() + " on " + bridge.Name
	if w.id != node.Home {
		where += " in " + w.label
	}
	words := first.name + " runs before the IP hooks at " + where
	if isBefore, known := b.assumes(words); known {
		next(b, isBefore)
		return
	}
	u := trace.Unknown{What: "the order of " + first.name + " and br_netfilter, which runs the IP hooks", Where: where}
	behind := b.clone()
	w.branches++
	b.assume(rule.Assumption{Unknown: &u, Words: words})
	behind.assume(rule.Assumption{Unknown: &u, Words: words, Negation: true})
	next(b, true)
	next(behind, false)
}

// listedBridge is bridgeFunctions where the kernel lists its hooks.
func (w *walk) listedBridge(h skb.Hook, part bridgePart) (groups []group, known bool, err error) {
	// Both listings, or none: which chains there are is read in one way or the other.
	if _, known, err = w.listing(familyOf(w.family())); !known || err != nil {
		return nil, false, err
	}
	hooks, known, err := w.listing(node.NFTBridge)
	if !known || err != nil {
		return nil, false, err
	}
	at := len(hooks[h])
	for i, fn := range hooks[h] {
		if runsIPHooks(h, fn) {
			at = i
		}
	}
	var fns []node.HookFunction
	for i, fn := range hooks[h] {
		if i == at || part == beforeIP && i > at || part == behindIP && (i < at || !runsBehind(h, fn.Priority)) {
			continue
		}
		fns = append(fns, fn)
	}
	return inOrder(fns, &w.unlisted, func(fn node.HookFunction) (function, bool, error) { return w.bridgeFunction(h, fn) })
}

// bridgeFunction is what a function at a bridge hook does to a frame. run is nil for br_netfilter and for the bridge's own
// connection tracking, which let every frame pass.
func (w *walk) bridgeFunction(h skb.Hook, fn node.HookFunction) (f function, known bool, err error) {
	switch {
	case fn.Kind == node.HookChain:
		return w.listedChain(fn, uint32(h), false)
	case fn.Kind == node.HookBPF:
		return opaque(fn, "netfilter BPF program"), true, nil
	case strings.HasPrefix(fn.Name, "br_nf_"), strings.HasPrefix(fn.Name, "nf_ct_bridge_"):
		return function{}, true, nil
	}
	return opaque(fn, "hook function "+fn.Name), true, nil
}

// runsIPHooks recognises the functions by which br_netfilter passes frames through IP prerouting and forward:
// br_nf_pre_routing, and br_nf_forward (br_nf_forward_ip before Linux 6.8).
func runsIPHooks(h skb.Hook, fn node.HookFunction) bool {
	if fn.Kind != node.HookFunctionOf {
		return false
	}
	name := functionName(fn)
	return h == skb.Prerouting && name == "br_nf_pre_routing" || h == skb.Forward && (name == "br_nf_forward" || name == "br_nf_forward_ip")
}
