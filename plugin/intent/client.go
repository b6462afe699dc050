package intent

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ClientKind is where a packet starts.
type ClientKind string

// The kinds of clients.
const (
	// FromPod is a pod of the node with an address of its own.
	FromPod ClientKind = "pod"
	// FromNode is a process in the node's own network namespace.
	FromNode ClientKind = "node"
	// FromOutside is an address that does not belong to the cluster.
	FromOutside ClientKind = "outside"
)

// Client is the start of a walk on one node.
type Client struct {
	Kind ClientKind
	Node string
	// Source is the client's address; the zero address for FromNode, where the node chooses.
	Source netip.Addr
	// PodNamespace and Pod name the pod whose address Source is; for FromNode, a pod in the node's own network. Container is
	// set when the user named one.
	PodNamespace string
	Pod          string
	Container    string
	// Sender is the container whose process sends; its zero value when there is none or it is not known.
	Sender Sender
	// Invented is true when Source is a free address out of the node's pod range, because no pod runs there.
	Invented bool
}

// String names the client in the answer: "pod shop/client on node1", "node1 itself", "outside (192.0.2.1) via node1".
func (c Client) String() string {
	switch {
	case c.Kind == FromNode && c.Pod != "":
		return fmt.Sprintf("pod %s/%s in the network of %s", c.PodNamespace, c.Pod, c.Node)
	case c.Kind == FromNode:
		return c.Node + " itself"
	case c.Kind == FromOutside:
		return fmt.Sprintf("outside (%s) via %s", c.Source, c.Node)
	case c.Invented:
		return fmt.Sprintf("a pod address (%s) on %s", c.Source, c.Node)
	default:
		return fmt.Sprintf("pod %s/%s on %s", c.PodNamespace, c.Pod, c.Node)
	}
}

// Outside are the addresses that stand for a client outside the cluster, one for each family; the documentation
// addresses of RFC 5737 and RFC 3849 by default.
var Outside = map[Family]netip.Addr{
	IPv4: netip.MustParseAddr("192.0.2.1"),
	IPv6: netip.MustParseAddr("2001:db8::1"),
}

// Clients chooses the clients of one family on a node: a pod, the node itself, and an address outside. The pod is a
// running one with an address of its own, by preference no endpoint of the Service; where none runs, a free address out
// of the node's pod range stands for it, and without a pod range there is no such client.
func (m *Model) Clients(n Node, family Family, pods []corev1.Pod, outside netip.Addr) []Client {
	var out []Client
	if c, ok := m.podClient(n, family, pods); ok {
		out = append(out, c)
	}
	if _, ok := n.Address(family); ok {
		out = append(out, Client{Kind: FromNode, Node: n.Name})
	}
	if outside.IsValid() && FamilyOf(outside) == family {
		out = append(out, Client{Kind: FromOutside, Node: n.Name, Source: outside})
	}
	return out
}

// PodClients are the clients that a running pod is, one for each IP family. A pod in its node's network is a process of the
// node, which chooses the address itself.
func PodClients(p *corev1.Pod, container string) []Client {
	c := Client{Kind: FromPod, Node: p.Spec.NodeName, PodNamespace: p.Namespace, Pod: p.Name, Container: container, Sender: senderOf(p, container)}
	if p.Spec.HostNetwork {
		c.Kind = FromNode
		return []Client{c}
	}
	var out []Client
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			c.Source = a.Unmap()
			out = append(out, c)
		}
	}
	return out
}

func (m *Model) podClient(n Node, family Family, pods []corev1.Pod) (Client, bool) {
	var found []Client
	used := map[netip.Addr]bool{}
	for i := range pods {
		p := &pods[i]
		if p.Spec.NodeName != n.Name || p.Spec.HostNetwork {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			a, err := netip.ParseAddr(ip.IP)
			if err != nil || FamilyOf(a) != family {
				continue
			}
			used[a.Unmap()] = true
			if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
				found = append(found, Client{Kind: FromPod, Node: n.Name, Source: a.Unmap(), PodNamespace: p.Namespace, Pod: p.Name, Sender: senderOf(p, "")})
			}
			break
		}
	}
	if len(found) > 0 {
		slices.SortFunc(found, func(a, b Client) int { return m.rank(a, b) })
		return found[0], true
	}
	for _, r := range n.PodRanges {
		if FamilyOf(r.Addr()) != family {
			continue
		}
		if a, ok := freeAddress(r, used); ok {
			return Client{Kind: FromPod, Node: n.Name, Source: a, Invented: true}, true
		}
	}
	return Client{}, false
}

// rank orders candidate pods: no endpoint of the Service first, then the Service's own namespace, then by name.
func (m *Model) rank(a, b Client) int {
	if x, y := m.isEndpoint(a.Source), m.isEndpoint(b.Source); x != y {
		return order(y)
	}
	if x, y := a.PodNamespace == m.Namespace, b.PodNamespace == m.Namespace; x != y {
		return order(x)
	}
	return strings.Compare(a.PodNamespace+"/"+a.Pod, b.PodNamespace+"/"+b.Pod)
}

// order is the comparison when the first of two comes first.
func order(first bool) int {
	if first {
		return -1
	}
	return 1
}

func (m *Model) isEndpoint(a netip.Addr) bool {
	for _, p := range m.Ports {
		for _, e := range p.Endpoints {
			if e.Address.Addr() == a {
				return true
			}
		}
	}
	return false
}

// freeAddress takes an unused address near the end of a range: allocators hand out from the start.
func freeAddress(r netip.Prefix, used map[netip.Addr]bool) (netip.Addr, bool) {
	last := lastAddress(r)
	for a, i := last.Prev(), 0; a.IsValid() && r.Contains(a) && a != r.Addr() && i < 256; a, i = a.Prev(), i+1 {
		if !used[a] {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func lastAddress(r netip.Prefix) netip.Addr {
	b := r.Addr().AsSlice()
	for i := r.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
