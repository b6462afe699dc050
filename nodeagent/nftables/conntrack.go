package nftables

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// UsesConntrack reports whether the rule turns connection tracking on in its namespace: whether one of its expressions
// calls nf_ct_netns_get when it is loaded. Extensions of iptables and named objects are not looked into; use
// Evaluator.UsesConntrack for these.
func (r *Rule) UsesConntrack() bool { return usesConntrack(r.Exprs, nil) }

// UsesConntrack is Rule.UsesConntrack with the iptables extensions looked into.
func (e *Evaluator) UsesConntrack(r *Rule) bool { return usesConntrack(r.Exprs, e.Compat) }

// UsesConntrack reports whether the object turns connection tracking on in its namespace, for its table's families, by
// being there: no rule needs to name it.
func (o *Object) UsesConntrack() bool {
	switch o.Type {
	case ObjectCtHelper, ObjectCtTimeout, ObjectCtExpect, ObjectConnlimit, ObjectSynproxy:
		return true
	}
	return false
}

// ConntrackFamilies tells for which IP families a rule that uses connection tracking turns it on: those of its table, or
// of its translation.
func (r *Rule) ConntrackFamilies() (ipv4, ipv6 bool) {
	f := r.Family
	for _, x := range r.Exprs {
		if n, ok := x.(*NAT); ok && usesOnly(r.Exprs, n) {
			f = n.Family
		}
	}
	return f == node.NFTIPv4 || f == node.NFTInet || f == node.NFTBridge, f == node.NFTIPv6 || f == node.NFTInet || f == node.NFTBridge
}

// usesOnly reports whether no expression but n uses connection tracking.
func usesOnly(exprs []Expr, n Expr) bool {
	for _, x := range exprs {
		if x != n && usesConntrack([]Expr{x}, nil) {
			return false
		}
	}
	return true
}

func usesConntrack(exprs []Expr, c Compat) bool {
	for _, x := range exprs {
		switch x := x.(type) {
		case *Ct, *NAT, *Masq, *Redir, *Connlimit, *Synproxy, *FlowOffload:
			return true
		case *Objref:
			switch x.Type {
			case ObjectCtHelper, ObjectConnlimit, ObjectCtTimeout, ObjectCtExpect, ObjectSynproxy:
				return true
			}
		case *Dynset:
			if usesConntrack(x.Exprs, c) {
				return true
			}
		case *CompatMatch:
			if c != nil && c.MatchUsesConntrack(x.Match, x.Revision, x.Info) {
				return true
			}
		case *CompatTarget:
			if c != nil && c.TargetUsesConntrack(x.Target, x.Revision, x.Info) {
				return true
			}
		}
	}
	return false
}

// UsesDefrag reports whether the rule turns defragmentation before connection tracking on by itself (tproxy and socket;
// connection tracking does too).
func (r *Rule) UsesDefrag() bool {
	for _, x := range r.Exprs {
		switch x := x.(type) {
		case *Tproxy, *Socket:
			return true
		case *CompatMatch:
			if x.Match == "socket" {
				return true
			}
		case *CompatTarget:
			if x.Target == "TPROXY" {
				return true
			}
		}
	}
	return false
}
