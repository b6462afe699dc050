package walk

import (
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// bridgePart is a part of what is registered at a hook of the bridge family: br_netfilter runs the IP hooks from a place
// among it.
type bridgePart uint8

const (
	wholeHook bridgePart = iota
	beforeIP
	behindIP
)

// Priorities of br_netfilter in the bridge hooks (NF_BR_PRI_BRNF in include/uapi/linux/netfilter_bridge.h, and one before it
// for forward: net/bridge/br_netfilter_hooks.c).
const (
	brNetfilter        = 0
	brNetfilterForward = -1
)

// before tells on which side of br_netfilter a chain of a priority is, as far as priorities tell. At prerouting br_netfilter
// is registered with the first bridge, and so runs behind the chains of its priority.
func before(h skb.Hook, priority int32) bool {
	if h == skb.Forward {
		return priority < brNetfilterForward
	}
	return priority <= brNetfilter
}

// bridgeFunctions returns a part of what is registered at a hook of the bridge family.
func (w *walk) bridgeFunctions(h skb.Hook, part bridgePart) ([]group, error) {
	groups, known, err := w.listedBridge(h, part)
	if known || err != nil {
		return groups, err
	}
	all, err := w.allBaseChains()
	if err != nil {
		return nil, err
	}
	var chains []nftables.Chain
	for _, c := range all {
		if c.Family == node.NFTBridge && c.Hook == uint32(h) && (part == wholeHook || (part == beforeIP) == before(h, c.Priority)) {
			chains = append(chains, c)
		}
	}
	return groupsOf(chains), nil
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
	marker := -1
	for i, fn := range hooks[h] {
		if runsIPHooks(h, fn) {
			marker = i
		}
	}
	for i, fn := range hooks[h] {
		isBefore := i < marker
		if marker < 0 {
			isBefore = before(h, fn.Priority)
		}
		if i == marker || part != wholeHook && (part == beforeIP) != isBefore {
			continue
		}
		var f function
		switch fn.Kind {
		case node.HookChain:
			if f, known, err = w.listedChain(fn, uint32(h), false); err != nil {
				return nil, false, err
			}
			if !known {
				w.unlisted = true
				return nil, false, nil
			}
		case node.HookBPF:
			f = opaque(fn, "netfilter BPF program")
		default:
			if strings.HasPrefix(fn.Name, "br_nf_") || strings.HasPrefix(fn.Name, "nf_ct_bridge_") {
				continue
			}
			f = opaque(fn, "hook function "+fn.Name)
		}
		groups = append(groups, alone(f))
	}
	return groups, true, nil
}

// runsIPHooks recognises the functions by which br_netfilter passes frames through IP prerouting and forward:
// br_nf_pre_routing, and br_nf_forward (br_nf_forward_ip before Linux 6.8).
func runsIPHooks(h skb.Hook, fn node.HookFunction) bool {
	if fn.Kind != node.HookFunctionOf {
		return false
	}
	name, _, _ := strings.Cut(fn.Name, " ")
	name, _, _ = strings.Cut(name, ".")
	return h == skb.Prerouting && name == "br_nf_pre_routing" || h == skb.Forward && (name == "br_nf_forward" || name == "br_nf_forward_ip")
}
