package walk

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// listing returns what the kernel has registered at the hooks of a family, in its order; known is false where it cannot be
// asked. Then tables and chains tell what is there, and the order of equal priorities is open.
func (w *walk) listing(f node.NFTFamily) (hooks [][]node.HookFunction, known bool, err error) {
	if w.unlisted {
		return nil, false, nil
	}
	if hooks, known = w.listed[f]; known {
		return hooks, true, nil
	}
	hooks, err = w.ns.Hooks(w.ctx, f)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, false, err
	case err != nil:
		// Not to be had: too old a kernel, no permission. The answer is as good without, only less sure of the order.
		w.unlisted = true
		return nil, false, nil
	}
	w.listed[f] = hooks
	return hooks, true, nil
}

// hookSource is how the walk knows what is registered in its namespace.
func (w *walk) hookSource() trace.HookSource {
	switch {
	case w.unlisted, w.devicesUnlisted:
		return trace.HooksDerived
	case len(w.listed) > 0:
		return trace.HooksListed
	}
	return ""
}

func familyOf(f skb.Family) node.NFTFamily {
	if f == skb.IPv6 {
		return node.NFTIPv6
	}
	return node.NFTIPv4
}

// listedGroups returns what is registered at a hook, in order; known is false when the kernel's listing is not to be had, or
// is not what nftables says at the same time.
func (w *walk) listedGroups(k hookKey) (groups []group, known bool, err error) {
	hooks, known, err := w.listing(familyOf(k.family))
	if !known || err != nil || int(k.hook) >= len(hooks) {
		return nil, false, err
	}
	return inOrder(hooks[k.hook], &w.unlisted, func(fn node.HookFunction) (function, bool, error) { return w.listedFunction(k, fn) })
}

// inOrder makes groups of registered functions, in the order that they are listed in, of those that do anything. gone is set
// when one of them is not there any more.
func inOrder(fns []node.HookFunction, gone *bool, what func(node.HookFunction) (function, bool, error)) (groups []group, known bool, err error) {
	for _, fn := range fns {
		f, known, err := what(fn)
		if err != nil {
			return nil, false, err
		}
		if !known {
			*gone = true
			return nil, false, nil
		}
		if f.run != nil {
			groups = append(groups, alone(f))
		}
	}
	return groups, true, nil
}

// alone is a group whose order is no question.
func alone(f function) group { return group{[]sequence{{f.name, []function{f}}}} }

// listedFunction is what a registered function does to a packet. run is nil when it passes every packet as it is; known is
// false when the function is not there any more.
func (w *walk) listedFunction(k hookKey, fn node.HookFunction) (f function, known bool, err error) {
	switch fn.Kind {
	case node.HookChain:
		return w.listedChain(fn, uint32(k.hook), false)
	case node.HookTable:
		return w.listedTable(k, fn)
	case node.HookNAT:
		f, known, err := w.listedNAT(k, fn)
		return f, known, err
	case node.HookBPF:
		return opaque(fn, "netfilter BPF program"), true, nil
	}
	return w.kernelFunction(k, fn), true, nil
}

// listedChain is a base chain. What nftables says of it must be what was registered.
func (w *walk) listedChain(fn node.HookFunction, hook uint32, nat bool) (function, bool, error) {
	o, err := w.ns.NFTChain(w.ctx, fn.Family, fn.Table, fn.Name)
	if errors.Is(err, node.ErrNotFound) {
		return function{}, false, nil // of a transaction that is under way
	}
	if err != nil {
		return function{}, false, err
	}
	c, err := nftables.DecodeChain(o)
	if err != nil {
		return function{}, false, err
	}
	same := c.Base && c.Family == fn.Family && c.Table == fn.Table && c.Name == fn.Name && c.Hook == hook && c.Priority == fn.Priority && (c.Type == "nat") == nat
	return chainFunction(c), same, nil
}

// listedTable is a legacy table.
func (w *walk) listedTable(k hookKey, fn node.HookFunction) (function, bool, error) {
	tables, err := w.legacyTables(k.family)
	if err != nil {
		return function{}, false, err
	}
	for _, t := range tables {
		if t.Name == fn.Name {
			return tableFunction(t, fn.Priority), true, nil
		}
	}
	return function{}, false, nil
}

// listedNAT is the translation, with the chains and tables that decide about it.
func (w *walk) listedNAT(k hookKey, fn node.HookFunction) (function, bool, error) {
	nat := &natHook{source: k.hook == skb.Postrouting || k.hook == skb.Input}
	for _, in := range fn.Inside {
		var f function
		var known bool
		var err error
		switch in.Kind {
		case node.HookChain:
			f, known, err = w.listedChain(in, uint32(k.hook), true)
		case node.HookTable:
			f, known, err = w.listedTable(k, in)
		default:
			f, known = opaque(in, "function "+in.Name+" of the translation of addresses"), true
		}
		if err != nil || !known {
			return function{}, known, err
		}
		g := alone(f)
		nat.groups = append(nat.groups, natGroup{in.Priority, &g})
	}
	return function{fn.Priority, "the translation of addresses", nat.run}, true, nil
}

// opaque is a function of which it is not known what it does.
func opaque(fn node.HookFunction, what string) function {
	what = fmt.Sprintf("%s of priority %d", what, fn.Priority)
	return function{fn.Priority, what, func(w *walk, b *branch, next func(*branch)) { w.unmodelled(b, what, next) }}
}

// transparent are functions of the kernel that do nothing to a packet which the model would have to know, by the beginnings
// of their names: they confirm a flow and watch its payload, or ask security modules about labels that packets of this model
// do not have. IPVS' function for ICMP errors sees none. The functions of br_netfilter at IP hooks are its own bookkeeping.
var transparent = []string{
	"nf_confirm", "ipv4_confirm", "ipv6_confirm", "ipv4_helper", "ipv6_helper",
	"selinux_", "apparmor_", "smack_", "ipv4_synproxy_hook", "ipv6_synproxy_hook", "ip_sabotage_in", "ip_vs_forward_icmp",
}

// functionName is the name of a kernel function without its module and without what compilers append (".isra.0", ".llvm.123").
func functionName(fn node.HookFunction) string {
	name, _, _ := strings.Cut(fn.Name, " ")
	name, _, _ = strings.Cut(name, ".")
	return name
}

// kernelFunction is a function of the kernel or of a module, by its name.
func (w *walk) kernelFunction(k hookKey, fn node.HookFunction) function {
	name := functionName(fn)
	switch {
	case name == "ipv4_conntrack_in", name == "ipv4_conntrack_local", name == "ipv6_conntrack_in", name == "ipv6_conntrack_local":
		return function{fn.Priority, "connection tracking", (*walk).track}
	case name == "ipv4_conntrack_defrag", name == "ipv6_defrag":
		if w.start.Bytes == nil {
			return function{} // the packet is no fragment
		}
		return function{fn.Priority, "defragmentation", (*walk).defragment}
	case takesForIPVS(name):
		return function{fn.Priority, "IPVS", (*walk).virtualServer}
	case answersForIPVS(name):
		return function{fn.Priority, "IPVS", (*walk).realServer}
	}
	for _, t := range transparent {
		if strings.HasPrefix(name, t) {
			return function{}
		}
	}
	return opaque(fn, "hook function "+fn.Name)
}

// takesForIPVS recognises the functions by which IPVS takes packets for its virtual servers at INPUT and OUTPUT: ip_vs_in_hook,
// or before Linux 5.14 one for each hook and family.
func takesForIPVS(name string) bool {
	return name == "ip_vs_in_hook" || strings.HasPrefix(name, "ip_vs_remote_request") || strings.HasPrefix(name, "ip_vs_local_request")
}

// answersForIPVS recognises the functions by which it translates what real servers answer, at INPUT, FORWARD and OUTPUT:
// ip_vs_out_hook, or before Linux 5.14 others for each family.
func answersForIPVS(name string) bool {
	return name == "ip_vs_out_hook" || strings.HasPrefix(name, "ip_vs_reply") || strings.HasPrefix(name, "ip_vs_local_reply")
}

// listsConntrack tells whether connection tracking has its hooks.
func listsConntrack(hooks [][]node.HookFunction) bool {
	for _, fn := range hooks[skb.Prerouting] {
		if name := functionName(fn); fn.Kind == node.HookFunctionOf && (name == "ipv4_conntrack_in" || name == "ipv6_conntrack_in") {
			return true
		}
	}
	return false
}
