package facts

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// wanted is a chain of kube-proxy's iptables mode, and the base chains that must jump to it. The set has been the same
// since 1.29 (pkg/proxy/iptables/proxier.go, iptablesJumpChains).
type wanted struct {
	table, name string
	from        []string
	// list makes its rules part of the answer; such a chain is short whatever the cluster's size.
	list bool
}

var iptablesChains = []wanted{
	{table: "nat", name: "KUBE-SERVICES", from: []string{"PREROUTING", "OUTPUT"}},
	{table: "nat", name: "KUBE-POSTROUTING", from: []string{"POSTROUTING"}, list: true},
	{table: "nat", name: "KUBE-MARK-MASQ", list: true},
	{table: "filter", name: "KUBE-SERVICES", from: []string{"FORWARD", "OUTPUT"}},
	{table: "filter", name: "KUBE-FORWARD", from: []string{"FORWARD"}, list: true},
	{table: "filter", name: "KUBE-EXTERNAL-SERVICES", from: []string{"INPUT", "FORWARD"}},
	{table: "mangle", name: "KUBE-PROXY-CANARY"},
	{table: "nat", name: "KUBE-PROXY-CANARY"},
	{table: "filter", name: "KUBE-PROXY-CANARY"},
}

// maxListed bounds the rules of a chain that are listed.
const maxListed = 8

// builtinHooks are the base chains of iptables' tables, by their names.
var builtinHooks = map[string]skb.Hook{
	"PREROUTING": skb.Prerouting, "INPUT": skb.Input, "FORWARD": skb.Forward, "OUTPUT": skb.Output, "POSTROUTING": skb.Postrouting,
}

// chainsOf are the chains to look for: those of every node, and those of the Service.
func (c *collector) chainsOf() []wanted {
	out := append([]wanted(nil), iptablesChains...)
	for _, name := range c.q.Chains {
		out = append(out, wanted{table: "nat", name: name})
	}
	return out
}

// owned notes a program whose rules are reached, once.
func (c *collector) owned(name, shown string) {
	for _, o := range c.out.Owners {
		if o.Name == name {
			return
		}
	}
	c.out.Owners = append(c.out.Owners, wire.Owner{Name: name, Shown: shown})
}
