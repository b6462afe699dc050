//go:build labkube

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Backend is what writes the rules.
type Backend string

// The backends. The two of iptables differ in which iptables kube-proxy finds.
const (
	NFTables       Backend = "nftables"
	IPTablesNFT    Backend = "iptables-nft"
	IPTablesLegacy Backend = "iptables-legacy"
)

// defaultBatch is how many Services one sync writes when nobody says otherwise. In one transaction the kernel names
// anonymous sets, and in one input iptables-nft-restore sorts chains, in quadratic time: several thousand Services at once
// take minutes.
func (b Backend) defaultBatch() int {
	if b == NFTables {
		return 1000
	}
	return 250
}

// Case is what one kube-proxy sees.
type Case struct {
	Name    string  `json:"name,omitempty"`
	Backend Backend `json:"backend,omitempty"`
	// NodeName names the node that kube-proxy runs on; empty means the first of Nodes.
	NodeName string `json:"nodeName,omitempty"`
	// Families are the IP families that the node supports: IPv4, IPv6. Empty means both when the node has addresses of
	// both, else that of its address.
	Families []v1.IPFamily `json:"families,omitempty"`
	// Config is a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) as kube-proxy's own file has it; apiVersion
	// and kind may be missing, and mode is taken from Backend. What is absent has kube-proxy's defaults.
	Config json.RawMessage `json:"config,omitempty"`
	// ServiceCIDRs are the cluster's ServiceCIDRs.
	ServiceCIDRs []string `json:"serviceCIDRs,omitempty"`

	Nodes          []v1.Node                 `json:"nodes,omitempty"`
	Services       []v1.Service              `json:"services,omitempty"`
	EndpointSlices []discovery.EndpointSlice `json:"endpointSlices,omitempty"`

	// Batch is how many Services one sync writes, 0 for what suits the backend.
	Batch int `json:"batch,omitempty"`
}

// decodeCase reads a case in YAML or JSON. Fields that it does not know are errors.
func decodeCase(b []byte) (*Case, error) {
	c := &Case{}
	var err error
	if b = bytes.TrimSpace(b); bytes.HasPrefix(b, []byte("{")) {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		err = d.Decode(c)
	} else {
		err = yaml.UnmarshalStrict(b, c)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the case: %w", err)
	}
	return c, nil
}

// node returns the Node that kube-proxy runs on.
func (c *Case) node() (*v1.Node, error) {
	if len(c.Nodes) == 0 {
		return nil, errors.New("the case has no nodes")
	}
	if c.NodeName == "" {
		return &c.Nodes[0], nil
	}
	for i := range c.Nodes {
		if c.Nodes[i].Name == c.NodeName {
			return &c.Nodes[i], nil
		}
	}
	return nil, fmt.Errorf("there is no node %q", c.NodeName)
}

// ours tells whether kube-proxy's informer lets it see a Service (cmd/kube-proxy/app/server.go, Run).
func ours(s *v1.Service) bool {
	_, other := s.Labels["service.kubernetes.io/service-proxy-name"]
	return !other && s.Spec.ClusterIP != v1.ClusterIPNone
}

// oursToo tells the same of an EndpointSlice.
func oursToo(s *discovery.EndpointSlice) bool {
	_, headless := s.Labels[v1.IsHeadlessService]
	return !headless
}

// key is the namespaced name of the Service that a slice belongs to.
func key(s *discovery.EndpointSlice) string {
	return s.Namespace + "/" + s.Labels[discovery.LabelServiceName]
}

// complete fills in what the API server would: the family and address lists of a Service, and its protocol.
func complete(s *v1.Service) {
	if s.Namespace == "" {
		s.Namespace = v1.NamespaceDefault
	}
	if s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) > 0 {
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	if len(s.Spec.IPFamilies) == 0 {
		for _, ip := range s.Spec.ClusterIPs {
			if ip != v1.ClusterIPNone {
				s.Spec.IPFamilies = append(s.Spec.IPFamilies, family(ip))
			}
		}
	}
	if s.Spec.Type == "" {
		s.Spec.Type = v1.ServiceTypeClusterIP
	}
	for i := range s.Spec.Ports {
		if s.Spec.Ports[i].Protocol == "" {
			s.Spec.Ports[i].Protocol = v1.ProtocolTCP
		}
	}
	if s.Spec.SessionAffinity == "" {
		s.Spec.SessionAffinity = v1.ServiceAffinityNone
	}
	if s.Spec.SessionAffinity == v1.ServiceAffinityClientIP && s.Spec.SessionAffinityConfig == nil {
		timeout := v1.DefaultClientIPServiceAffinitySeconds
		s.Spec.SessionAffinityConfig = &v1.SessionAffinityConfig{ClientIP: &v1.ClientIPConfig{TimeoutSeconds: &timeout}}
	}
	mode := v1.LoadBalancerIPModeVIP
	for i := range s.Status.LoadBalancer.Ingress {
		if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" && in.IPMode == nil {
			in.IPMode = &mode
		}
	}
}

// completeSlice fills in a slice's family, and its ports' protocol.
func completeSlice(s *discovery.EndpointSlice) {
	if s.Namespace == "" {
		s.Namespace = v1.NamespaceDefault
	}
	if s.AddressType == "" {
		s.AddressType = discovery.AddressTypeIPv4
		if len(s.Endpoints) > 0 && len(s.Endpoints[0].Addresses) > 0 {
			s.AddressType = discovery.AddressType(family(s.Endpoints[0].Addresses[0]))
		}
	}
	for i := range s.Ports {
		if s.Ports[i].Protocol == nil {
			tcp := v1.ProtocolTCP
			s.Ports[i].Protocol = &tcp
		}
		if s.Ports[i].Name == nil {
			s.Ports[i].Name = new(string)
		}
	}
}

func family(ip string) v1.IPFamily {
	if strings.Contains(ip, ":") {
		return v1.IPv6Protocol
	}
	return v1.IPv4Protocol
}
