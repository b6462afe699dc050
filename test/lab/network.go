package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bridge is the switch that everything is plugged into.
const bridge = "br0"

// buildNetwork makes the switch and the network namespaces of the control plane, the nodes and the outside, and what is
// beyond it, with their addresses and routes. It runs in init's own network namespace, which holds the switch and has no way out.
func buildNetwork(o Options) error {
	a := addresses{o.Family}
	if err := setSysctls(
		[2]string{"net/ipv4/ip_forward", "0"},
		[2]string{"net/ipv6/conf/all/forwarding", "0"},
		[2]string{"net/ipv6/conf/all/accept_dad", "0"},
		[2]string{"net/ipv6/conf/default/accept_dad", "0"},
	); err != nil {
		return err
	}
	if err := raise(nil, "lo"); err != nil {
		return err
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	if err := netlink.LinkAdd(br); err != nil {
		return fmt.Errorf("make the switch: %w", err)
	}
	// a switch must not run the frames it passes on through iptables; nodes' own bridges must
	if err := setSysctls(
		[2]string{"net/bridge/bridge-nf-call-iptables", "0"},
		[2]string{"net/bridge/bridge-nf-call-ip6tables", "0"},
	); err != nil {
		return err
	}
	if err := addAddresses(nil, br, a.gateway()); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(br); err != nil {
		return fmt.Errorf("raise the switch: %w", err)
	}
	if err := endPackets(a); err != nil {
		return err
	}
	members := []member{
		{name: controlPlaneName, addrs: a.controlPlane()},
		{name: outsideName, addrs: a.outside()},
	}
	if o.Beyond {
		members = append(members, member{name: routerName, addrs: a.router(), forwards: true})
	}
	for i := range o.Nodes {
		members = append(members, member{name: nodeName(i + 1), addrs: a.node(i + 1), forwards: true, number: i + 1})
	}
	for _, m := range members {
		if err := m.plug(br, a, o); err != nil {
			return fmt.Errorf("network of %s: %w", m.name, err)
		}
	}
	if o.Beyond {
		if err := addBeyond(a); err != nil {
			return fmt.Errorf("network of %s: %w", beyondName, err)
		}
	}
	return nil
}

// endPackets makes the switch, which everyone's default route points to, drop what it gets without a word. (Without a
// route, IPv6 would answer some packets with an error.)
func endPackets(a addresses) error {
	for _, gw := range a.gateway() {
		err := netlink.RouteAdd(&netlink.Route{Type: unix.RTN_BLACKHOLE, Dst: ipNet(everything(gw))})
		if err != nil {
			return fmt.Errorf("end packets at the switch: %w", err)
		}
	}
	return nil
}

// cable is the name of the switch's end of a member's cable.
func cable(member string) string { return "v-" + member }

// member is a namespace on the switch.
type member struct {
	name     string
	addrs    []netip.Addr
	forwards bool
	number   int // of a node, else 0
}

// plug makes the namespace, connects its eth0 to the switch, and sets addresses and routes.
func (m member) plug(br netlink.Link, a addresses, o Options) error {
	ns, err := addNamespace(m.name)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := inNamespace(namedNamespace(m.name), m.sysctls); err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: cable(m.name), MasterIndex: br.Attrs().Index},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(int(ns)),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make cable: %w", err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("raise cable: %w", err)
	}
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	if err := raise(h, "lo"); err != nil {
		return err
	}
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	if err := addAddresses(h, eth0, m.addrs); err != nil {
		return err
	}
	if err := raise(h, "eth0"); err != nil {
		return err
	}
	for _, r := range m.routes(a, o) {
		if err := r.add(h, eth0); err != nil {
			return err
		}
	}
	if !m.isNode() {
		return nil
	}
	if o.Network == Routed {
		// what is no pod's is nobody's: without this it would go to the switch, and from there to other nodes
		for _, pods := range a.pods(m.number) {
			if err := h.RouteAdd(&netlink.Route{Type: unix.RTN_BLACKHOLE, Dst: ipNet(pods)}); err != nil {
				return fmt.Errorf("add black hole for %v: %w", pods, err)
			}
		}
	}
	if o.Between == VXLAN {
		return addTunnels(h, eth0, a, m.number, o.Nodes)
	}
	return nil
}

func (m member) isNode() bool { return m.number > 0 }

// routes are the member's routes over eth0: every node's pods through that node, unless tunnels lead there; what is
// beyond the router through it, from nodes; load balancers' addresses through node 1, from clients; and by default to
// the switch, where packets end.
func (m member) routes(a addresses, o Options) []route {
	var routes []route
	for _, via := range a.gateway() {
		routes = append(routes, route{everything(via), via})
	}
	for i := range o.Nodes {
		if i+1 == m.number || (m.isNode() && o.Between == VXLAN) {
			continue
		}
		for j, pods := range a.pods(i + 1) {
			routes = append(routes, route{pods, a.node(i + 1)[j]})
		}
	}
	if m.isNode() && o.Beyond {
		for j, beyond := range a.prefixes(beyondRanges) {
			routes = append(routes, route{beyond, a.router()[j]})
		}
	}
	if m.name == outsideName || m.name == routerName {
		for j, balanced := range a.prefixes(loadBalancerRanges) {
			routes = append(routes, route{balanced, a.node(1)[j]})
		}
	}
	return routes
}

// sysctls sets what the member's namespace needs, from within it.
func (m member) sysctls() error {
	forward := "0"
	if m.forwards {
		forward = "1"
	}
	return setSysctls(
		[2]string{"net/ipv4/ip_forward", forward},
		// A node that forwards back onto the switch would tell senders of a better way, and senders would believe it:
		// the outside would no longer come in where its route says.
		[2]string{"net/ipv4/conf/all/send_redirects", "0"},
		[2]string{"net/ipv4/conf/default/send_redirects", "0"},
		[2]string{"net/ipv4/conf/all/accept_redirects", "0"},
		[2]string{"net/ipv4/conf/default/accept_redirects", "0"},
		[2]string{"net/ipv6/conf/all/accept_redirects", "0"},
		[2]string{"net/ipv6/conf/default/accept_redirects", "0"},
		// each refused connection is told so, not only the first few a second
		[2]string{"net/ipv4/icmp_ratelimit", "0"},
		[2]string{"net/ipv6/icmp/ratelimit", "0"},
		[2]string{"net/ipv4/conf/all/rp_filter", "0"},
		[2]string{"net/ipv4/conf/default/rp_filter", "0"},
		[2]string{"net/ipv6/conf/all/accept_dad", "0"}, // addresses are usable at once
		[2]string{"net/ipv6/conf/default/accept_dad", "0"},
		[2]string{"net/ipv6/conf/all/forwarding", forward},
		[2]string{"net/ipv6/conf/default/forwarding", forward},
	)
}

type route struct {
	to  netip.Prefix
	via netip.Addr
}

func (r route) add(h *netlink.Handle, link netlink.Link) error {
	err := h.RouteAdd(&netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       ipNet(r.to),
		Gw:        r.via.AsSlice(),
	})
	if err != nil {
		return fmt.Errorf("add route to %v via %v: %w", r.to, r.via, err)
	}
	return nil
}

// raise sets a link up; a nil handle means the current namespace.
func raise(h *netlink.Handle, name string) error {
	if h == nil {
		own, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer own.Close()
		h = own
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("raise %s: %w", name, err)
	}
	return nil
}

func addAddresses(h *netlink.Handle, link netlink.Link, addrs []netip.Addr) error {
	for _, addr := range addrs {
		entry := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, switchBits(addr)))}
		if addr.Is6() {
			entry.Flags = unix.IFA_F_NODAD
		}
		add := netlink.AddrAdd
		if h != nil {
			add = h.AddrAdd
		}
		if err := add(link, entry); err != nil {
			return fmt.Errorf("add address %v to %s: %w", addr, link.Attrs().Name, err)
		}
	}
	return nil
}

// ipNet is a prefix as netlink wants it; host bits stay.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
