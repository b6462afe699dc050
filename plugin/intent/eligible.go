package intent

// eligible are the endpoint sets that kube-proxy on one node computes for a service port.
type eligible struct {
	// cluster are those for the policy Cluster, local those for Local.
	cluster []Endpoint
	local   []Endpoint
	// any is true when there is a usable endpoint anywhere: none means reject, only "none here" means drop.
	any bool
	// how says how cluster was narrowed or widened, in words; empty for all ready endpoints.
	how      string
	localHow string
}

// eligibleOn computes the endpoint sets for a service port on a node.
func (m *Model) eligibleOn(p Port, n Node) eligible {
	eps := withoutDuplicates(p.Endpoints, n.Name, n.Release)
	ready := keep(eps, func(e Endpoint) bool { return e.Ready })
	mode := m.topology(ready, n)
	out := eligible{cluster: mode.narrow(ready, n)}
	switch mode {
	case sameNode:
		out.how = "the hints keep traffic on the node"
	case sameZone:
		out.how = "the hints keep traffic in zone " + n.Zone
	}
	dying := keep(eps, func(e Endpoint) bool { return e.Serving && e.Terminating })
	if len(out.cluster) == 0 && len(dying) > 0 {
		out.cluster, out.how = dying, "no endpoint is ready, so those that still serve while terminating are used"
	}
	here := func(e Endpoint) bool { return e.Node == n.Name }
	out.local = keep(ready, here)
	if len(out.local) == 0 {
		if out.local = keep(dying, here); len(out.local) > 0 {
			out.localHow = "no endpoint on the node is ready, so those that still serve while terminating are used"
		}
	}
	// Hints narrow only where something is left, and cluster falls back to terminating endpoints anywhere: it is empty only
	// if no endpoint is usable at all.
	out.any = len(out.cluster) > 0
	return out
}
