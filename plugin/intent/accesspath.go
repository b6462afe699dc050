package intent

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// AccessKind is the kind of a way in.
type AccessKind string

// The kinds of access paths that a node translates.
const (
	ClusterIP      AccessKind = "ClusterIP"
	NodePort       AccessKind = "NodePort"
	LoadBalancerIP AccessKind = "LoadBalancer"
	ExternalIP     AccessKind = "ExternalIP"
)

// AccessPath is one way in: a kind of address × service port × family.
type AccessPath struct {
	Kind   AccessKind
	Family Family
	// Protocol is tcp, udp or sctp.
	Protocol string
	// Address is the virtual address; the zero address for a NodePort, which every node has at its own addresses.
	Address netip.Addr
	// Port is the destination port: the service port, or the nodePort.
	Port uint16
	// PortIndex is the service port's index in Model.Ports.
	PortIndex int
	// Proxied is true for a load balancer address with ipMode Proxy, which kube-proxy leaves to the load balancer.
	Proxied bool
}

// Destination is where a client on or in front of the node connects to; false when the node has no address of the family.
func (p AccessPath) Destination(n Node) (netip.AddrPort, bool) {
	if p.Kind != NodePort {
		return netip.AddrPortFrom(p.Address, p.Port), true
	}
	a, ok := n.Address(p.Family)
	return netip.AddrPortFrom(a, p.Port), ok
}

// String is the path as people write it: ClusterIP 10.96.0.25:80/TCP, NodePort 30080/TCP (IPv6).
func (p AccessPath) String() string {
	proto := strings.ToUpper(p.Protocol)
	if p.Kind != NodePort {
		return fmt.Sprintf("%s %s/%s", p.Kind, netip.AddrPortFrom(p.Address, p.Port), proto)
	}
	if p.Family == IPv6 {
		return fmt.Sprintf("%s %d/%s (IPv6)", p.Kind, p.Port, proto)
	}
	return fmt.Sprintf("%s %d/%s", p.Kind, p.Port, proto)
}

// external reports whether externalTrafficPolicy governs the path.
func (p AccessPath) external() bool { return p.Kind != ClusterIP }

// addPaths lists the access paths: by kind, then in the order of the ports.
func (m *Model) addPaths(svc *corev1.Service) {
	for i, p := range m.Ports {
		for _, ip := range m.ClusterIPs {
			if FamilyOf(ip) == p.Family {
				m.Paths = append(m.Paths, AccessPath{Kind: ClusterIP, Family: p.Family, Protocol: p.Protocol, Address: ip, Port: p.Port, PortIndex: i})
			}
		}
	}
	for i, p := range m.Ports {
		if p.NodePort != 0 {
			m.Paths = append(m.Paths, AccessPath{Kind: NodePort, Family: p.Family, Protocol: p.Protocol, Port: p.NodePort, PortIndex: i})
		}
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		ip, err := netip.ParseAddr(in.IP)
		if err != nil {
			continue // a host name only: nothing that a node could match
		}
		m.addVirtual(LoadBalancerIP, ip.Unmap(), in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy)
	}
	for _, s := range svc.Spec.ExternalIPs {
		if ip, err := netip.ParseAddr(s); err == nil {
			m.addVirtual(ExternalIP, ip.Unmap(), false)
		}
	}
}

// addVirtual adds a virtual address for every port of its family. A single-stack Service with an address of the other
// family gets no path: kube-proxy programs none.
func (m *Model) addVirtual(kind AccessKind, ip netip.Addr, proxied bool) {
	found := false
	for i, p := range m.Ports {
		if p.Family == FamilyOf(ip) {
			found = true
			m.Paths = append(m.Paths, AccessPath{Kind: kind, Family: p.Family, Protocol: p.Protocol, Address: ip, Port: p.Port, PortIndex: i, Proxied: proxied})
		}
	}
	if !found {
		m.Notes = append(m.Notes, fmt.Sprintf("%s address %s is of a family that the Service does not have: no node translates it", kind, ip))
	}
}
