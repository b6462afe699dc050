package intent

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// one is a case: a Service with its slices.
type one struct {
	service corev1.Service
	slices  []discoveryv1.EndpointSlice
}

// dice draws the fields of cases.
type dice struct{ *rand.Rand }

// often is true with a chance of one in n.
func (d dice) oneIn(n int) bool { return d.IntN(n) == 0 }

func pick[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

// nodes are node1, whose rules are walked, and node2, in another zone.
func nodes() []corev1.Node {
	var out []corev1.Node
	for i := 1; i <= 2; i++ {
		out = append(out, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node%d", i), Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprintf("zone%d", i)}},
			Spec:       corev1.NodeSpec{PodCIDRs: []string{fmt.Sprintf("10.244.%d.0/24", i), fmt.Sprintf("fd00:244:%d::/64", i)}},
			Status: corev1.NodeStatus{
				Addresses: []corev1.NodeAddress{
					{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.250.0.1%d", i)}, {Type: corev1.NodeInternalIP, Address: fmt.Sprintf("fd00:250::1%d", i)},
				},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.37.2", OperatingSystem: "linux"},
			},
		})
	}
	return out
}

// draw makes case number i, whose addresses are its own.
func (d dice) draw(i int) one {
	families := pick(d, []corev1.IPFamily{corev1.IPv4Protocol}, []corev1.IPFamily{corev1.IPv6Protocol}, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol})
	s := corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("case-%d", i)},
		Spec: corev1.ServiceSpec{
			Type:       pick(d, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer),
			IPFamilies: families, Selector: map[string]string{"app": "web"},
		},
	}
	for _, f := range families {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, virtual(f, "10.96", "fd00:96", i))
	}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	if d.oneIn(3) {
		s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	}
	if s.Spec.Type != corev1.ServiceTypeClusterIP && d.oneIn(2) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if d.oneIn(4) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if d.oneIn(12) {
		s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "other"}
	}
	if d.oneIn(3) {
		for _, f := range families {
			s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, virtual(f, "198.18", "2001:db8:18", i))
		}
	}
	if d.oneIn(10) { // an address of a family that a single-stack Service may lack
		s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, virtual(pick(d, corev1.IPv4Protocol, corev1.IPv6Protocol), "198.19", "2001:db8:19", i))
	}
	d.ports(&s, i)
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		d.balance(&s, i)
	}
	return one{s, d.slices(&s, i)}
}

func virtual(f corev1.IPFamily, v4, v6 string, i int) string {
	if f == corev1.IPv6Protocol {
		return fmt.Sprintf("%s::%x:1", v6, i+1)
	}
	return fmt.Sprintf("%s.%d.%d", v4, (i+1)/250, (i+1)%250+1)
}

func (d dice) ports(s *corev1.Service, i int) {
	protocols := pick(d, []corev1.Protocol{corev1.ProtocolTCP}, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}, []corev1.Protocol{corev1.ProtocolUDP}, []corev1.Protocol{corev1.ProtocolSCTP})
	withNodePorts := s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer && !d.oneIn(4)
	for k, p := range protocols {
		port := corev1.ServicePort{Name: fmt.Sprintf("port-%d", k), Protocol: p, Port: 80, TargetPort: intstr.FromInt32(8080)}
		if len(protocols) == 1 && d.oneIn(3) {
			port.Name = ""
		}
		if withNodePorts {
			port.NodePort = int32(30000 + i)
		}
		s.Spec.Ports = append(s.Spec.Ports, port)
	}
	if !withNodePorts && s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.Spec.AllocateLoadBalancerNodePorts = new(false)
	}
}

// ranges that hold the client outside, the node, the pods, nobody, or everybody.
var ranges = []string{
	"192.0.2.0/24", "10.250.0.0/24", "10.244.0.0/16", "203.0.113.0/24", "0.0.0.0/0",
	"2001:db8::/48", "fd00:250::/64", "fd00:244::/32", "2001:db8:ffff::/48", "::/0",
}

func (d dice) balance(s *corev1.Service, i int) {
	for _, f := range s.Spec.IPFamilies {
		in := corev1.LoadBalancerIngress{IP: virtual(f, "203.0", "2001:db8:203", i)}
		switch d.IntN(5) {
		case 0:
			in.IPMode = new(corev1.LoadBalancerIPModeProxy)
		case 1:
			in.IPMode = new(corev1.LoadBalancerIPModeVIP)
		}
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, in)
	}
	if d.oneIn(8) {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{Hostname: "lb.example.com"})
	}
	if d.oneIn(2) {
		for range 1 + d.IntN(2) {
			s.Spec.LoadBalancerSourceRanges = append(s.Spec.LoadBalancerSourceRanges, pick(d, ranges...))
		}
	}
}

// slices makes the endpoints: up to two slices for each family, of different target ports.
func (d dice) slices(s *corev1.Service, i int) []discoveryv1.EndpointSlice {
	var out []discoveryv1.EndpointSlice
	hints := d.IntN(5)
	local := d.IntN(4) // 0: none on this node
	for _, f := range s.Spec.IPFamilies {
		for k := range d.IntN(3) {
			slice := discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Namespace: s.Namespace, Name: fmt.Sprintf("%s-%s-%d", s.Name, f, k), Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}},
				AddressType: discoveryv1.AddressType(f),
			}
			for _, p := range s.Spec.Ports {
				slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(p.Name), Protocol: new(p.Protocol), Port: new(int32(8080 + k))})
			}
			if d.oneIn(12) {
				slice.Ports[0].Name = new("another")
			}
			for n := range d.IntN(4) {
				slice.Endpoints = append(slice.Endpoints, d.endpoint(f, i, k*4+n, hints, local))
			}
			out = append(out, slice)
		}
	}
	return out
}

func (d dice) endpoint(f corev1.IPFamily, i, n, hints, local int) discoveryv1.Endpoint {
	node := 2
	if local > 0 && d.oneIn(2) {
		node = 1
	}
	host := 20 + (i*8+n)%200
	address := fmt.Sprintf("10.244.%d.%d", node, host)
	if f == corev1.IPv6Protocol {
		address = fmt.Sprintf("fd00:244:%d::%x", node, host)
	}
	e := discoveryv1.Endpoint{Addresses: []string{address}, NodeName: new(fmt.Sprintf("node%d", node)), Zone: new(fmt.Sprintf("zone%d", node))}
	if d.oneIn(12) {
		e.NodeName = nil
	}
	set := func(ready, serving, terminating bool) {
		e.Conditions = discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
	}
	switch d.IntN(7) {
	case 0:
		set(false, true, true)
	case 1:
		set(false, false, true)
	case 2:
		set(false, false, false)
	case 3:
		set(false, true, false)
	case 4: // all defaults
	default:
		set(true, true, false)
	}
	e.Hints = &discoveryv1.EndpointHints{}
	zone := []discoveryv1.ForZone{{Name: fmt.Sprintf("zone%d", node)}}
	switch hints {
	case 1:
		e.Hints.ForZones = zone
	case 2:
		e.Hints.ForZones, e.Hints.ForNodes = zone, []discoveryv1.ForNode{{Name: fmt.Sprintf("node%d", node)}}
	case 3:
		if d.oneIn(2) {
			e.Hints.ForZones = zone
		}
	default:
		e.Hints = nil
	}
	return e
}
