package lab

import "fmt"

// Network says how a node's pods are connected to it.
type Network string

// The networks.
const (
	// Bridge has a bridge on each node, which has an address in the node's pod range (CNI plugin bridge).
	Bridge Network = "bridge"
	// Routed has no bridge, as Calico has none: each pod has a /32 and a /128, the gateway 169.254.1.1 by proxy ARP or
	// the node's link-local address, and a route of its own on the node; the rest of the node's pod range is a black
	// hole there.
	Routed Network = "routed"
)

// ParseNetwork reads a network's name.
func ParseNetwork(s string) (Network, error) {
	switch n := Network(s); n {
	case Bridge, Routed:
		return n, nil
	}
	return "", fmt.Errorf("unknown network %q: want bridge or routed", s)
}

// Between says how pods' packets come from one node to another.
type Between string

// The ways between nodes.
const (
	// HostGateway has a route to each node's pods via that node's own address.
	HostGateway Between = "hostgw"
	// VXLAN has a tunnel, as flannel does: devices flannel.1 and flannel-v6.1 with VNI 1 and UDP port 8472, that learn
	// nothing and know every other node's.
	VXLAN Between = "vxlan"
)

// ParseBetween reads the name of a way between nodes.
func ParseBetween(s string) (Between, error) {
	switch b := Between(s); b {
	case HostGateway, VXLAN:
		return b, nil
	}
	return "", fmt.Errorf("unknown way between nodes %q: want hostgw or vxlan", s)
}

// MTUs: of the nodes' network, and the smallest that IPv6 allows (RFC 8200, section 5).
const (
	switchMTU  = 1500
	minimumMTU = 1280
)

// What VXLAN adds to a packet: the inner Ethernet header, 14 bytes, and outer VXLAN, UDP and IP headers, 8, 8 and 20 or
// 40 (RFC 7348, section 5).
const (
	vxlanOverhead4 = 50
	vxlanOverhead6 = 70
)

// podMTU is the MTU of pods: what was asked for, or as much as fits on the way between nodes in every family.
func (o Options) podMTU() int {
	switch {
	case o.PodMTU != 0:
		return o.PodMTU
	case o.Between != VXLAN:
		return switchMTU
	case o.Family.has6():
		return switchMTU - vxlanOverhead6
	}
	return switchMTU - vxlanOverhead4
}
