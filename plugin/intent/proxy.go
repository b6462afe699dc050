package intent

import "net/netip"

// DetectLocal is how kube-proxy tells packets of pods from others (detectLocalMode of its configuration).
type DetectLocal string

// The ways to tell.
const (
	// ByClusterCIDR: the source is in the first clusterCIDR of its family. Pods of other nodes match too.
	ByClusterCIDR DetectLocal = "ClusterCIDR"
	// ByNodeCIDR: the source is in the node's own first pod range of the family.
	ByNodeCIDR DetectLocal = "NodeCIDR"
	// ByInterface: the packet comes in by an interface of the node's pods (BridgeInterface, InterfaceNamePrefix).
	ByInterface DetectLocal = "Interface"
)

// Proxy is what decides in kube-proxy's configuration, which the API shows only where it can be read.
type Proxy struct {
	DetectLocal DetectLocal
	// ClusterCIDRs are clusterCIDR; only the first of each family counts.
	ClusterCIDRs []netip.Prefix
	// MasqueradeAll replaces the source of everything that goes to a ClusterIP.
	MasqueradeAll bool
}

// detects reports whether kube-proxy on the node takes the client for one of its pods, and whether it can tell at all in the
// client's family: without a range of the family it cannot.
func (p *Proxy) detects(c Client, n Node, f Family) (pod, able bool) {
	source := c.Source
	if c.Kind == FromNode {
		source, _ = n.Address(f)
	}
	ranges := p.ClusterCIDRs
	switch p.DetectLocal {
	case ByInterface:
		return c.Kind == FromPod, true
	case ByNodeCIDR:
		ranges = n.PodRanges
	}
	for _, r := range ranges {
		if FamilyOf(r.Addr()) == f {
			return r.Contains(source), true
		}
	}
	return false, false
}

// clusterIPMasquerade is whether the source is replaced on the way to a ClusterIP, in iptables and nftables mode.
func (m *Model) clusterIPMasquerade(c Client, n Node, f Family) Masquerade {
	if m.Proxy == nil {
		return MasqueradeUnknown
	}
	pod, able := m.Proxy.detects(c, n, f)
	if m.Proxy.MasqueradeAll || able && !pod {
		return Masqueraded
	}
	return SourceKept
}

// shortcut reports whether a pod's connection to an external address under the policy Local takes the short way to all
// endpoints; certain is false when that depends on configuration that is not known.
func (m *Model) shortcut(c Client, n Node, f Family) (takes, certain bool) {
	if m.Proxy == nil {
		return c.Kind == FromPod, c.Kind != FromPod
	}
	pod, able := m.Proxy.detects(c, n, f)
	return able && pod, true
}
