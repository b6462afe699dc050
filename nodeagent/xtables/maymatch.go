package xtables

import "github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"

// MayMatch reports whether the header of the packet lets the rule match: addresses, interfaces and protocol. It is false
// only for rules that do not match for certain, which need no evaluation.
func (t *Table) MayMatch(r Rule, p *skb.Packet) bool {
	return r.raw == nil || p.Family != t.Family || r.mayMatch(t.l, p)
}
