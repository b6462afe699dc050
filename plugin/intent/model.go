// Package intent says what the Kubernetes API asks for: which access paths a Service has, which endpoints, and what ought
// to happen to a connection from a client on a node, as kube-proxy of releases 1.29 to 1.37 would program it.
//
// It is pure: objects in, values out. Nothing here knows what any kernel really does.
package intent

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Model is one Service and everything that decides what should happen to its traffic.
type Model struct {
	Namespace string
	Name      string
	Type      corev1.ServiceType
	// ClusterIPs are the Service's virtual addresses, primary first.
	ClusterIPs []netip.Addr
	// Selector is the Service's selector in kubectl's notation; empty when it has none.
	Selector string
	// Ports are the service ports, one for each family.
	Ports []Port
	// Paths are the ways in, in the order they are shown.
	Paths []AccessPath
	// Nodes are all nodes of the cluster, in the order given.
	Nodes []Node
	// InternalLocal and ExternalLocal are true when the traffic policy is Local and counts.
	InternalLocal bool
	ExternalLocal bool
	// Affinity is the time a client stays with an endpoint; 0 without session affinity.
	Affinity time.Duration
	// SourceRanges are spec.loadBalancerSourceRanges, of both families.
	SourceRanges []netip.Prefix
	// OtherProxy is the value of the label that hands the Service to another proxy; kube-proxy then ignores it.
	OtherProxy string
	// HintsAnnotation is the annotation that up to 1.30 switched topology hints on; empty when absent.
	HintsAnnotation string
	// Proxy is kube-proxy's configuration, nil where it is not known.
	Proxy *Proxy
	// HealthCheckNodePort is where load balancers ask a node for its local endpoints; 0 without one.
	HealthCheckNodePort uint16
	// Notes are oddities of the objects that explain a surprising answer.
	Notes []string
}

// Port is one service port in one family.
type Port struct {
	Name     string
	Protocol string
	Family   Family
	Port     uint16
	NodePort uint16
	// Target is the targetPort as the Service has it: a number or a name.
	Target string
	// Endpoints are all endpoints of the port, whatever their state; the same address may occur twice.
	Endpoints []Endpoint
}

// Build reads a Service with its EndpointSlices and the cluster's nodes. The Service must have a ClusterIP.
func Build(svc *corev1.Service, slcs []discoveryv1.EndpointSlice, nodes []Node) (*Model, error) {
	if why := NothingToTranslate(svc); why != nil {
		return nil, why
	}
	m := &Model{
		Namespace:     svc.Namespace,
		Name:          svc.Name,
		Type:          svc.Spec.Type,
		Nodes:         nodes,
		InternalLocal: svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal: externalLocal(svc),
		OtherProxy:    svc.Labels["service.kubernetes.io/service-proxy-name"],
		Selector:      selectorText(svc.Spec.Selector),

		HealthCheckNodePort: uint16(svc.Spec.HealthCheckNodePort),
	}
	if m.Type == "" {
		m.Type = corev1.ServiceTypeClusterIP
	}
	if a, ok := svc.Annotations["service.kubernetes.io/topology-aware-hints"]; ok {
		m.HintsAnnotation = a
	} else {
		m.HintsAnnotation = svc.Annotations[corev1.AnnotationTopologyMode]
	}
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		m.Affinity = time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			m.Affinity = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
		}
	}
	for _, r := range svc.Spec.LoadBalancerSourceRanges {
		p, err := netip.ParsePrefix(strings.TrimSpace(r))
		if err != nil {
			m.Notes = append(m.Notes, fmt.Sprintf("loadBalancerSourceRanges holds %q, which is no address range", r))
			continue
		}
		m.SourceRanges = append(m.SourceRanges, p.Masked())
	}
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{svc.Spec.ClusterIP}
	}
	for _, s := range ips {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("the Service %s/%s has a ClusterIP %q that is no address: %w", svc.Namespace, svc.Name, s, err)
		}
		m.ClusterIPs = append(m.ClusterIPs, ip.Unmap())
	}
	for _, ip := range m.ClusterIPs {
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			m.Ports = append(m.Ports, Port{
				Name:      p.Name,
				Protocol:  strings.ToLower(string(protocolOf(&p.Protocol))),
				Family:    FamilyOf(ip),
				Port:      uint16(p.Port),
				NodePort:  uint16(p.NodePort),
				Target:    targetText(p),
				Endpoints: collectEndpoints(slcs, FamilyOf(ip), p.Name, protocolOf(&p.Protocol)),
			})
		}
	}
	m.addPaths(svc)
	return m, nil
}

// Node returns the named node.
func (m *Model) Node(name string) (Node, bool) {
	i := slices.IndexFunc(m.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return m.Nodes[i], true
}

// Endpoints returns all endpoints of all ports, sorted by address and without repetition.
func (m *Model) Endpoints() []Endpoint {
	var out []Endpoint
	for _, p := range m.Ports {
		out = append(out, p.Endpoints...)
	}
	slices.SortStableFunc(out, func(a, b Endpoint) int { return a.Address.Compare(b.Address) })
	return slices.CompactFunc(out, func(a, b Endpoint) bool {
		return a.Address == b.Address && a.Pod == b.Pod && a.Node == b.Node && a.State() == b.State()
	})
}

// EndpointNodes lists the nodes that run an endpoint that kube-proxy could use, sorted.
func (m *Model) EndpointNodes() []string {
	var usable []Endpoint
	for _, e := range m.Endpoints() {
		if e.usable() {
			usable = append(usable, e)
		}
	}
	return nodesOf(usable)
}

// Key identifies what the answer depends on in the endpoints, to see whether they changed during a trace.
func (m *Model) Key() string {
	var b strings.Builder
	for _, p := range m.Ports {
		fmt.Fprintf(&b, "%s/%s/%d:", p.Family, p.Protocol, p.Port)
		for _, e := range p.Endpoints {
			fmt.Fprintf(&b, " %s=%s@%s", e.Address, e.State(), e.Node)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// externalLocal applies kube-proxy's type test: externalTrafficPolicy counts only where the Service has external addresses.
func externalLocal(svc *corev1.Service) bool {
	if svc.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return false
	}
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		return true
	default:
		return len(svc.Spec.ExternalIPs) > 0
	}
}

func targetText(p *corev1.ServicePort) string {
	if t := p.TargetPort.String(); t != "" && t != "0" {
		return t
	}
	return strconv.Itoa(int(p.Port))
}

func selectorText(sel map[string]string) string {
	keys := make([]string, 0, len(sel))
	for k := range sel {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		keys[i] = k + "=" + sel[k]
	}
	return strings.Join(keys, ",")
}
