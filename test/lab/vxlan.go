package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// flannel's numbers: backend/vxlan of github.com/flannel-io/flannel.
const (
	vxlanID   = 1
	vxlanPort = 8472
)

// tunnel is a node's VXLAN device of one family. It has the first address of the node's pod range, which no pod gets.
type tunnel struct {
	name     string
	overhead int
	under    netip.Addr       // the node's address
	pods     netip.Prefix     // the node's pod range
	mac      net.HardwareAddr // of the device
}

// tunnels are the VXLAN devices of node i, one per family.
func (a addresses) tunnels(i int) []tunnel {
	var all []tunnel
	for j, pods := range a.pods(i) {
		t := tunnel{name: "flannel.1", overhead: vxlanOverhead4, under: a.node(i)[j], pods: pods}
		t.mac = net.HardwareAddr{0x0e, 0xf1, 0, 0, 4, byte(i)}
		if pods.Addr().Is6() {
			t.name, t.overhead, t.mac[4] = "flannel-v6.1", vxlanOverhead6, 6
		}
		all = append(all, t)
	}
	return all
}

// addTunnels makes the VXLAN devices of node n over eth0, and tells them of all other nodes: the route to a node's pods
// goes via the address of that node's device, whose hardware address and underlying address are entered by hand.
func addTunnels(h *netlink.Handle, eth0 netlink.Link, a addresses, n, nodes int) error {
	for j, own := range a.tunnels(n) {
		dev, err := own.add(h, eth0)
		if err != nil {
			return err
		}
		for i := range nodes {
			if i+1 == n {
				continue
			}
			if err := a.tunnels(i + 1)[j].reach(h, dev); err != nil {
				return fmt.Errorf("tunnel to %s: %w", nodeName(i+1), err)
			}
		}
	}
	return nil
}

func (t tunnel) add(h *netlink.Handle, eth0 netlink.Link) (netlink.Link, error) {
	err := h.LinkAdd(&netlink.Vxlan{
		LinkAttrs:    netlink.LinkAttrs{Name: t.name, HardwareAddr: t.mac, MTU: switchMTU - t.overhead},
		VxlanId:      vxlanID,
		VtepDevIndex: eth0.Attrs().Index,
		SrcAddr:      t.under.AsSlice(),
		Port:         vxlanPort,
		Learning:     false,
	})
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", t.name, err)
	}
	if err := raise(h, t.name); err != nil {
		return nil, err
	}
	dev, err := h.LinkByName(t.name)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", t.name, err)
	}
	own := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(t.pods.Addr(), t.pods.Addr().BitLen()))}
	if t.pods.Addr().Is6() {
		own.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(dev, own); err != nil {
		return nil, fmt.Errorf("add address %v to %s: %w", own.IPNet, t.name, err)
	}
	return dev, nil
}

// reach enters another node's tunnel into this node's device.
func (t tunnel) reach(h *netlink.Handle, dev netlink.Link) error {
	index := dev.Attrs().Index
	neighbour := &netlink.Neigh{
		LinkIndex: index, State: unix.NUD_PERMANENT, Type: unix.RTN_UNICAST,
		IP: t.pods.Addr().AsSlice(), HardwareAddr: t.mac,
	}
	if err := h.NeighSet(neighbour); err != nil {
		return fmt.Errorf("enter neighbour %v: %w", t.pods.Addr(), err)
	}
	forwarding := &netlink.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, State: unix.NUD_PERMANENT, Flags: unix.NTF_SELF,
		IP: t.under.AsSlice(), HardwareAddr: t.mac,
	}
	if err := h.NeighSet(forwarding); err != nil {
		return fmt.Errorf("enter forwarding of %v: %w", t.mac, err)
	}
	route := &netlink.Route{LinkIndex: index, Dst: ipNet(t.pods), Gw: t.pods.Addr().AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if err := h.RouteAdd(route); err != nil {
		return fmt.Errorf("add route to %v: %w", t.pods, err)
	}
	return nil
}
