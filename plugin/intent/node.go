package intent

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Node is what matters of a Node object.
type Node struct {
	Name string
	Zone string
	// Ready is true when the Ready condition is True; NotReady says why it is not, else is empty.
	Ready    bool
	NotReady string
	// OS is linux or windows; empty counts as linux.
	OS string
	// Internal are the InternalIPs, in the Node's order.
	Internal []netip.Addr
	// PodRanges are spec.podCIDRs.
	PodRanges []netip.Prefix
	// Kubelet is the kubelet's version, and Release its minor release.
	Kubelet string
	Release Release
}

// Address returns the node's first InternalIP of the family.
func (n Node) Address(f Family) (netip.Addr, bool) {
	for _, a := range n.Internal {
		if FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// NodeOf reads a Node object.
func NodeOf(n *corev1.Node) Node {
	out := Node{
		Name:    n.Name,
		Zone:    n.Labels[corev1.LabelTopologyZone],
		OS:      n.Status.NodeInfo.OperatingSystem,
		Kubelet: n.Status.NodeInfo.KubeletVersion,
		Release: ParseRelease(n.Status.NodeInfo.KubeletVersion),
	}
	out.NotReady = "its kubelet has not reported yet"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		out.Ready = c.Status == corev1.ConditionTrue
		switch {
		case out.Ready:
			out.NotReady = ""
		case c.Message != "":
			out.NotReady = c.Message
		default:
			out.NotReady = "Ready is " + string(c.Status)
		}
	}
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil {
			out.Internal = append(out.Internal, ip.Unmap())
		}
	}
	ranges := n.Spec.PodCIDRs
	if len(ranges) == 0 && n.Spec.PodCIDR != "" {
		ranges = []string{n.Spec.PodCIDR}
	}
	for _, r := range ranges {
		if p, err := netip.ParsePrefix(r); err == nil {
			out.PodRanges = append(out.PodRanges, p.Masked())
		}
	}
	return out
}
