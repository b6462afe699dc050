//go:build labkube

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The addresses of generated objects.
var (
	generatedServices = map[v1.IPFamily]netip.Addr{v1.IPv4Protocol: netip.MustParseAddr("10.96.0.0"), v1.IPv6Protocol: netip.MustParseAddr("fd00:96::")}
	generatedPods     = map[v1.IPFamily]netip.Addr{v1.IPv4Protocol: netip.MustParseAddr("10.128.0.0"), v1.IPv6Protocol: netip.MustParseAddr("fd00:244::")}
	generatedNode     = map[v1.IPFamily]string{v1.IPv4Protocol: "192.168.0.1", v1.IPv6Protocol: "fd00:250::1"}
)

// nodePortEvery is how many generated Services there are for each one of type NodePort.
const nodePortEvery = 10

// generator makes Services app-1 to app-N in namespace bench, port http 80/TCP, cluster IP 10.96.0.0 + its number
// (fd00:96:: + its number), each with the same number of ready endpoints on port 8080.
//
// Endpoints have successive addresses from 10.128.0.1 (fd00:244::1) on, half of them on the node of kube-proxy. Every
// tenth Service is of type NodePort.
type generator struct {
	services, endpoints int
	affinity            bool
}

func (g generator) generate(families string) (*Case, error) {
	var list []v1.IPFamily
	switch families {
	case "ipv4":
		list = []v1.IPFamily{v1.IPv4Protocol}
	case "ipv6":
		list = []v1.IPFamily{v1.IPv6Protocol}
	case "dual":
		list = []v1.IPFamily{v1.IPv4Protocol, v1.IPv6Protocol}
	default:
		return nil, fmt.Errorf("--family %q is none of ipv4, ipv6 and dual", families)
	}
	if g.services < 1 || g.services > 60000 || g.endpoints < 0 || g.services*g.endpoints > 4_000_000 {
		return nil, fmt.Errorf("%d Services of %d endpoints cannot be generated", g.services, g.endpoints)
	}
	config, err := json.Marshal(map[string]any{"clusterCIDR": clusterCIDRs(list)})
	if err != nil {
		return nil, err
	}
	c := &Case{
		Name: fmt.Sprintf("%d services x %d endpoints", g.services, g.endpoints), Families: list, Config: config, Nodes: []v1.Node{generatedNodeObject(list)},
	}
	for i := 1; i <= g.services; i++ {
		c.Services = append(c.Services, g.service(i, list))
		for _, f := range list {
			c.EndpointSlices = append(c.EndpointSlices, g.slice(i, f))
		}
	}
	return c, nil
}

func clusterCIDRs(list []v1.IPFamily) string {
	out := ""
	for _, f := range list {
		if out != "" {
			out += ","
		}
		bits := 9
		if f == v1.IPv6Protocol {
			bits = 64
		}
		out += netip.PrefixFrom(generatedPods[f], bits).String()
	}
	return out
}

func generatedNodeObject(list []v1.IPFamily) v1.Node {
	n := v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	for _, f := range list {
		n.Status.Addresses = append(n.Status.Addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: generatedNode[f]})
	}
	return n
}

func (g generator) service(i int, list []v1.IPFamily) v1.Service {
	s := v1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "bench", Name: fmt.Sprintf("app-%d", i)},
		Spec: v1.ServiceSpec{
			Type: v1.ServiceTypeClusterIP, IPFamilies: list,
			Ports: []v1.ServicePort{{Name: "http", Protocol: v1.ProtocolTCP, Port: 80}},
		},
	}
	for _, f := range list {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, plus(generatedServices[f], i).String())
	}
	if i%nodePortEvery == 0 {
		s.Spec.Type = v1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort = int32(30000 + i/nodePortEvery)
	}
	if g.affinity {
		s.Spec.SessionAffinity = v1.ServiceAffinityClientIP
	}
	return s
}

func (g generator) slice(i int, f v1.IPFamily) discovery.EndpointSlice {
	name, port, protocol, ready := "http", int32(8080), v1.ProtocolTCP, true
	s := discovery.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "bench", Name: fmt.Sprintf("app-%d-%s", i, f),
			Labels: map[string]string{discovery.LabelServiceName: fmt.Sprintf("app-%d", i)},
		},
		AddressType: discovery.AddressType(f),
		Ports:       []discovery.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	nodes := [2]string{"node1", "node2"}
	for k := range g.endpoints {
		s.Endpoints = append(s.Endpoints, discovery.Endpoint{
			Addresses:  []string{plus(generatedPods[f], (i-1)*g.endpoints+k+1).String()},
			Conditions: discovery.EndpointConditions{Ready: &ready, Serving: &ready},
			NodeName:   &nodes[k%2],
		})
	}
	return s
}

// plus adds n to an address's last 32 bits.
func plus(a netip.Addr, n int) netip.Addr {
	b := a.AsSlice()
	last := b[len(b)-4:]
	v := uint32(last[0])<<24 | uint32(last[1])<<16 | uint32(last[2])<<8 | uint32(last[3])
	v += uint32(n)
	last[0], last[1], last[2], last[3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
	out, _ := netip.AddrFromSlice(b)
	return out
}
