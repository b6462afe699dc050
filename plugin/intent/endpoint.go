package intent

import (
	"net/netip"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Endpoint is one address of an EndpointSlice, for one service port.
type Endpoint struct {
	// Address is where kube-proxy translates to: the slice's first address of the endpoint, and the slice's port.
	Address netip.AddrPort
	// Node is the node it runs on; empty when the slice does not say, and then it is local to no node.
	Node string
	Zone string
	// Pod is the pod's name in the Service's namespace, or empty when the endpoint is not a pod.
	Pod string
	// Ready, Serving and Terminating are the slice's conditions with their defaults applied.
	Ready       bool
	Serving     bool
	Terminating bool
	// ForZones and ForNodes are the topology hints.
	ForZones []string
	ForNodes []string
	// Slice is the name of the EndpointSlice.
	Slice string
}

// State says in one or two words what the conditions mean for traffic.
func (e Endpoint) State() string {
	switch {
	case e.Ready && e.Terminating:
		return "ready, terminating"
	case e.Ready:
		return "ready"
	case e.Terminating && e.Serving:
		return "terminating, serving"
	case e.Terminating:
		return "terminating"
	default:
		return "not ready"
	}
}

// usable reports whether kube-proxy could ever send to the endpoint: ready, or the fallback of serving while terminating.
func (e Endpoint) usable() bool { return e.Ready || e.Serving && e.Terminating }

// collectEndpoints unions the endpoints of all slices that carry the service port. Slices are joined by port name and
// protocol, never by number. Duplicates are kept: which of them kube-proxy keeps depends on the node (see withoutDuplicates).
func collectEndpoints(slcs []discoveryv1.EndpointSlice, family Family, portName string, protocol corev1.Protocol) []Endpoint {
	want := discoveryv1.AddressTypeIPv4
	if family == IPv6 {
		want = discoveryv1.AddressTypeIPv6
	}
	var out []Endpoint
	for i := range slcs {
		s := &slcs[i]
		if _, headless := s.Labels[corev1.IsHeadlessService]; headless || s.AddressType != want {
			continue // kube-proxy does not watch slices of headless Services
		}
		for _, p := range s.Ports {
			if p.Name == nil || *p.Name != portName || p.Port == nil || *p.Port <= 0 || *p.Port > 65535 {
				continue
			}
			if protocolOf(p.Protocol) != protocol {
				continue
			}
			for j := range s.Endpoints {
				if e, ok := endpointOf(&s.Endpoints[j], uint16(*p.Port), s.Name); ok && FamilyOf(e.Address.Addr()) == family {
					out = append(out, e)
				}
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Address.Compare(out[j].Address) < 0 })
	return out
}

func protocolOf(p *corev1.Protocol) corev1.Protocol {
	if p == nil || *p == "" {
		return corev1.ProtocolTCP
	}
	return *p
}

// endpointOf reads one endpoint; only its first address counts, as for kube-proxy.
func endpointOf(e *discoveryv1.Endpoint, port uint16, slice string) (Endpoint, bool) {
	if len(e.Addresses) == 0 {
		return Endpoint{}, false
	}
	addr, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return Endpoint{}, false
	}
	out := Endpoint{
		Address:     netip.AddrPortFrom(addr.Unmap(), port),
		Ready:       isNilOr(e.Conditions.Ready, true),
		Serving:     isNilOr(e.Conditions.Serving, true),
		Terminating: e.Conditions.Terminating != nil && *e.Conditions.Terminating,
		Slice:       slice,
	}
	if e.NodeName != nil {
		out.Node = *e.NodeName
	}
	if e.Zone != nil {
		out.Zone = *e.Zone
	}
	if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
		out.Pod = e.TargetRef.Name
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.ForZones = append(out.ForZones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			out.ForNodes = append(out.ForNodes, n.Name)
		}
	}
	return out, true
}

func isNilOr(b *bool, value bool) bool { return b == nil || *b == value }

// withoutDuplicates keeps one endpoint per address, as kube-proxy on the node does: up to 1.35 the first one wins unless
// a later one is local; from 1.36 a later one replaces unless it is terminating, so that a live pod beats a dying one
// that had its address.
func withoutDuplicates(eps []Endpoint, node string, release Release) []Endpoint {
	at := make(map[netip.AddrPort]int, len(eps))
	var out []Endpoint
	for _, e := range eps {
		i, dup := at[e.Address]
		switch {
		case !dup:
			at[e.Address] = len(out)
			out = append(out, e)
		case release.Before(36) && e.Node == node && e.Node != "":
			out[i] = e
		case !release.Before(36) && !e.Terminating:
			out[i] = e
		}
	}
	return out
}

// Addresses lists the addresses of endpoints, sorted and without repetition.
func Addresses(eps []Endpoint) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(eps))
	for _, e := range eps {
		out = append(out, e.Address)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// nodesOf lists the nodes of endpoints, sorted and without repetition.
func nodesOf(eps []Endpoint) []string {
	var out []string
	for _, e := range eps {
		if e.Node != "" {
			out = append(out, e.Node)
		}
	}
	slices.SortFunc(out, strings.Compare)
	return slices.Compact(out)
}
