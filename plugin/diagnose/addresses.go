package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// The kinds of this family: addresses that two have, or that nobody should.
var (
	DuplicatePodAddress = Kind{
		ID: "duplicate-pod-address", Severity: Error, Title: "address twice",
		Means: "An endpoint's address belongs to two running pods. Which of them answers depends on the node, or changes from moment to moment, and " +
			"the wrong application may be the one.",
		Proven:     "Two running pods outside the host's network have the same address in their status.",
		Fix:        "delete one of the pods, and see why the network plugin gave an address twice: its own state, or pod ranges that overlap",
		References: []string{"kubernetes/kubernetes#43910", "kubernetes/kubernetes#51322", "aws/amazon-vpc-cni-k8s#711"},
	}
	ClusterIPShared = Kind{
		ID: "cluster-ip-shared", Severity: Error, Title: "ClusterIP twice",
		Means:      "Two Services have the same ClusterIP. Each node uses the rules of the one that it happened to write last or first.",
		Proven:     "Another Service of the cluster has the address in spec.clusterIPs.",
		Fix:        "delete one of the two Services and create it again: it gets another address",
		References: []string{"kubernetes/kubernetes#92285"},
	}
	ClusterIPOutsideRange = Kind{
		ID: "cluster-ip-outside-range", Severity: Warning, Title: "ClusterIP out of range",
		Means: "The Service's ClusterIP lies in none of the cluster's ranges: the range was changed after the Service was made, or the API servers are " +
			"configured differently. Network plugins and firewalls that know the range treat it as an address outside.",
		Proven:     "No ServiceCIDR contains the address.",
		Fix:        "create the Service again, so that it gets an address out of the range, or add a ServiceCIDR with the old range",
		References: []string{"k3s-io/k3s#4708", "kubernetes/kubernetes#104769"},
	}
	ClusterIPNotAllocated = Kind{
		ID: "cluster-ip-not-allocated", Severity: Warning, Title: "ClusterIP not recorded",
		Means:      "The API has no record that the ClusterIP is taken, so another Service may get the same one.",
		Proven:     "There is no IPAddress object of the address's name, though the cluster has ServiceCIDRs.",
		Fix:        "the API server repairs such records by itself within minutes: see its log, and the events of the Service",
		References: []string{"kubernetes/kubernetes#92285"},
	}
	AddressShared = Kind{
		ID: "address-shared", Severity: Warning, Title: "address and port twice",
		Means:  "Another Service has the same external or load balancer address with the same port and protocol. Which of the two gets the connections is undefined, and may change.",
		Proven: "Both Services have the address, in spec.externalIPs or status.loadBalancer, and a port in common.",
		Fix:    "give one of them another address or port",
	}
	ExternalIPIsNodeAddress = Kind{
		ID: "external-ip-is-node-address", Severity: Warning, Title: "external IP is a node",
		Means: "An external IP of the Service is the address of a node. Every node takes connections to that address and port for the Service; in IPVS mode " +
			"every node takes the address itself, and the node it belongs to cannot be reached any more.",
		Proven:     "spec.externalIPs holds an address that a Node has in its status.",
		Fix:        "remove the external IP, or use a nodePort",
		References: []string{"kubernetes/kubernetes#127410", "kubernetes/kubernetes#97076", "kubernetes/kubernetes#22650"},
	}
	OverlappingRanges = Kind{
		ID: "overlapping-ranges", Severity: Warning, Title: "ranges overlap",
		Means: "Ranges of pods, Services and nodes overlap. An address in both goes to only one of them, so that some pods, Services or nodes cannot be " +
			"reached from some places.",
		Proven:     "Two of these contain a common address: spec.podCIDRs of the nodes, the ServiceCIDRs, the nodes' own addresses.",
		Fix:        "plan the ranges anew: pod, Service and node ranges must be apart, and apart from the networks around the cluster",
		Explains:   []string{"stopped-after-translation"},
		References: []string{"kubernetes/kops#16340", "projectcalico/calico#2720", "kubernetes/kubernetes#11228"},
	}
)

func addressFamily() Family {
	return Family{Name: "Addresses", check: checkAddresses, Kinds: []Kind{
		DuplicatePodAddress, ClusterIPShared, ClusterIPOutsideRange, ClusterIPNotAllocated, AddressShared, ExternalIPIsNodeAddress, OverlappingRanges,
	}}
}

func checkAddresses(s *scene, l *ledger) {
	checkPodAddresses(s, l)
	checkClusterIPs(s, l)
	checkSharedAddresses(s, l)
	checkExternalIPs(s, l)
	checkRanges(s, l)
}

// checkPodAddresses looks for other pods with an endpoint's address. Pods in the host's network share the node's.
func checkPodAddresses(s *scene, l *ledger) {
	by := map[netip.Addr][]*corev1.Pod{}
	for i := range s.api.Pods {
		p := &s.api.Pods[i]
		if p.Spec.HostNetwork || p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil {
			continue
		}
		for _, a := range podAddresses(p) {
			if !slices.ContainsFunc(by[a], func(o *corev1.Pod) bool { return o.Namespace == p.Namespace && o.Name == p.Name }) {
				by[a] = append(by[a], p)
			}
		}
	}
	for i := range s.model.Ports {
		for _, e := range s.model.Ports[i].Endpoints {
			pods := by[e.Address.Addr()]
			if len(pods) < 2 {
				continue
			}
			var names []string
			var evidence []Evidence
			for _, p := range pods {
				names = append(names, p.Namespace+"/"+p.Name)
				evidence = append(evidence, field("Pod", p.Namespace, p.Name, "status.podIPs", e.Address.Addr().String(), "pod %s/%s on node %s has the address %s", p.Namespace, p.Name, p.Spec.NodeName, e.Address.Addr()))
			}
			l.add("", draft{
				kind: DuplicatePodAddress, subject: e.Address.Addr().String(), evidence: evidence,
				sentence: fmt.Sprintf("%d running pods have the address %s of an endpoint: %s", len(pods), e.Address.Addr(), strings.Join(names, ", ")),
			}, s.placesOf(i)...)
		}
	}
}

// serviceRanges are the cluster's ranges of cluster IPs.
func (s *scene) serviceRanges() []netip.Prefix {
	var out []netip.Prefix
	for i := range s.api.ServiceCIDRs {
		for _, c := range s.api.ServiceCIDRs[i].Spec.CIDRs {
			if p, err := netip.ParsePrefix(c); err == nil {
				out = append(out, p.Masked())
			}
		}
	}
	return out
}

func checkClusterIPs(s *scene, l *ledger) {
	ranges := s.serviceRanges()
	for _, ip := range s.model.ClusterIPs {
		places := s.clusterIPPlaces(ip)
		for i := range s.api.Services {
			o := &s.api.Services[i]
			if s.own(o) || !slices.Contains(o.Spec.ClusterIPs, ip.String()) {
				continue
			}
			l.add("", draft{
				kind: ClusterIPShared, subject: ip.String(), evidence: []Evidence{field("Service", o.Namespace, o.Name, "spec.clusterIPs", strings.Join(o.Spec.ClusterIPs, ", "), "Service %s/%s: clusterIPs %s", o.Namespace, o.Name, strings.Join(o.Spec.ClusterIPs, ", "))},
				sentence: fmt.Sprintf("Service %s/%s has the ClusterIP %s too: which of the two a node serves is undefined", o.Namespace, o.Name, ip),
			}, places...)
		}
		if len(ranges) == 0 {
			continue
		}
		if !slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(ip) }) {
			l.add("", draft{
				kind: ClusterIPOutsideRange, subject: ip.String(), evidence: []Evidence{said("ServiceCIDRs: %s", joinPrefixes(ranges)), s.serviceField("spec.clusterIPs", ip.String(), "the Service has the ClusterIP %s", ip)},
				sentence: fmt.Sprintf("the ClusterIP %s is in none of the cluster's ranges (%s)", ip, joinPrefixes(ranges)),
			}, places...)
			continue
		}
		if s.api.Read.Addresses && !slices.ContainsFunc(s.api.Addresses, func(a networkingv1.IPAddress) bool { return a.Name == ip.String() }) {
			l.add("", draft{
				kind: ClusterIPNotAllocated, subject: ip.String(), evidence: []Evidence{field("IPAddress", "", ip.String(), "metadata.name", "", "there is no IPAddress %s", ip)},
				sentence: fmt.Sprintf("the API has no record that the ClusterIP %s is taken: another Service may get it", ip),
			}, places...)
		}
	}
}

func (s *scene) own(o *corev1.Service) bool {
	return o.Namespace == s.model.Namespace && o.Name == s.model.Name
}

func (s *scene) clusterIPPlaces(ip netip.Addr) []Place {
	var out []Place
	for _, path := range s.model.Paths {
		if path.Kind == intent.ClusterIP && path.Address == ip {
			out = append(out, Place{Path: path})
		}
	}
	return out
}

// checkSharedAddresses looks for other Services with an external address and port of this one. A load balancer's address
// may well be shared by Services of different ports.
func checkSharedAddresses(s *scene, l *ledger) {
	for _, path := range s.model.Paths {
		if path.Kind != intent.ExternalIP && path.Kind != intent.LoadBalancerIP || path.Proxied {
			continue
		}
		for i := range s.api.Services {
			o := &s.api.Services[i]
			if s.own(o) || !slices.Contains(outsideAddresses(o), path.Address.String()) || !slices.ContainsFunc(o.Spec.Ports, func(p corev1.ServicePort) bool {
				return uint16(p.Port) == path.Port && strings.EqualFold(string(protocolOr(p.Protocol)), path.Protocol)
			}) {
				continue
			}
			l.add("", draft{
				kind: AddressShared, subject: path.String(), evidence: []Evidence{field("Service", o.Namespace, o.Name, "spec.externalIPs, status.loadBalancer", strings.Join(outsideAddresses(o), ", "), "Service %s/%s has %s too", o.Namespace, o.Name, strings.Join(outsideAddresses(o), ", "))},
				sentence: fmt.Sprintf("Service %s/%s has %s too: which of the two gets the connections is undefined", o.Namespace, o.Name, path),
			}, Place{Path: path})
		}
	}
}

// outsideAddresses are a Service's external IPs and load balancer addresses that nodes translate.
func outsideAddresses(o *corev1.Service) []string {
	out := slices.Clone(o.Spec.ExternalIPs)
	for _, in := range o.Status.LoadBalancer.Ingress {
		if in.IP != "" && (in.IPMode == nil || *in.IPMode != corev1.LoadBalancerIPModeProxy) {
			out = append(out, in.IP)
		}
	}
	return out
}

func checkExternalIPs(s *scene, l *ledger) {
	for _, path := range s.model.Paths {
		if path.Kind != intent.ExternalIP {
			continue
		}
		for i := range s.api.Nodes {
			n := &s.api.Nodes[i]
			for _, a := range n.Status.Addresses {
				if a.Address != path.Address.String() {
					continue
				}
				l.add("", draft{
					kind: ExternalIPIsNodeAddress, subject: a.Address, evidence: []Evidence{field("Node", "", n.Name, "status.addresses", a.Address, "Node %s: %s %s", n.Name, a.Type, a.Address)},
					sentence: fmt.Sprintf("external IP %s is the address of node %s: every node takes port %d of it for the Service", a.Address, n.Name, path.Port),
				}, Place{Path: path})
			}
		}
	}
}
