package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// What Calico has: felix's dataplane gives every host end this hardware address, and the link-local address follows from
// it (RFC 4291, appendix A).
var (
	hostMAC  = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	gateway4 = netip.MustParseAddr("169.254.1.1")
	gateway6 = netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")
)

// pod is the pod's end of the cable that is to be made.
type pod struct {
	container string
	netns     string // path of the network namespace; empty or gone when the pod's sandbox is
	name      string // of the interface in the pod
	mtu       int
}

// hostEnd is the name of the node's end, as Calico's names are: cali and 11 characters.
func (p pod) hostEnd() string {
	sum := sha256.Sum256([]byte(p.container + p.name))
	return "cali" + hex.EncodeToString(sum[:])[:11]
}

// result is the answer to ADD (CNI specification 1.0.0, section 5).
type result struct {
	CNIVersion string      `json:"cniVersion"`
	Interfaces []iface     `json:"interfaces"`
	IPs        []ipResult  `json:"ips"`
	Routes     []routeInfo `json:"routes"`
}

type iface struct {
	Name    string `json:"name"`
	MAC     string `json:"mac"`
	Sandbox string `json:"sandbox,omitempty"`
}

type ipResult struct {
	Address   netip.Prefix `json:"address"`
	Gateway   netip.Addr   `json:"gateway"`
	Interface int          `json:"interface"` // index into the result's interfaces
}

type routeInfo struct {
	Destination netip.Prefix `json:"dst"`
	Gateway     netip.Addr   `json:"gw"`
}

// connect makes the cable, and gives both ends what they need.
func (p pod) connect(addrs []netip.Addr) (result, error) {
	ns, err := netns.GetFromPath(p.netns)
	if err != nil {
		return result{}, fmt.Errorf("open network namespace of the pod: %w", err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return result{}, fmt.Errorf("open netlink in the pod: %w", err)
	}
	defer inside.Close()

	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: p.hostEnd(), HardwareAddr: hostMAC, MTU: p.mtu},
		PeerName:      p.name,
		PeerNamespace: netlink.NsFd(int(ns)),
		PeerMTU:       uint32(p.mtu),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return result{}, fmt.Errorf("make cable: %w", err)
	}
	if err := p.raiseHostEnd(); err != nil {
		return result{}, err
	}
	eth0, err := inside.LinkByName(p.name)
	if err != nil {
		return result{}, fmt.Errorf("find %s in the pod: %w", p.name, err)
	}
	if err := inside.LinkSetUp(eth0); err != nil {
		return result{}, fmt.Errorf("raise %s in the pod: %w", p.name, err)
	}
	host, err := netlink.LinkByName(p.hostEnd())
	if err != nil {
		return result{}, fmt.Errorf("find %s: %w", p.hostEnd(), err)
	}
	r := result{Interfaces: []iface{
		{Name: p.hostEnd(), MAC: hostMAC.String()},
		{Name: p.name, MAC: eth0.Attrs().HardwareAddr.String(), Sandbox: p.netns},
	}}
	for _, addr := range addrs {
		if err := p.address(inside, eth0, host, addr); err != nil {
			return result{}, err
		}
		r.IPs = append(r.IPs, ipResult{Address: alone(addr), Gateway: gateway(addr), Interface: 1})
		r.Routes = append(r.Routes, routeInfo{Destination: everything(addr), Gateway: gateway(addr)})
	}
	return r, nil
}

// raiseHostEnd makes the node answer at once for the pod's gateway, and raises its end.
func (p pod) raiseHostEnd() error {
	for _, s := range [][2]string{
		{"/proc/sys/net/ipv4/conf/" + p.hostEnd() + "/proxy_arp", "1"},
		{"/proc/sys/net/ipv4/neigh/" + p.hostEnd() + "/proxy_delay", "0"}, // else up to 0.8 s, proxy_delay in arp(7)
	} {
		if err := os.WriteFile(s[0], []byte(s[1]), 0o644); err != nil {
			return fmt.Errorf("set %s: %w", s[0], err)
		}
	}
	host, err := netlink.LinkByName(p.hostEnd())
	if err != nil {
		return fmt.Errorf("find %s: %w", p.hostEnd(), err)
	}
	if err := netlink.LinkSetUp(host); err != nil {
		return fmt.Errorf("raise %s: %w", p.hostEnd(), err)
	}
	return nil
}

// address gives the pod one address and its way out, and the node its way in.
func (p pod) address(inside *netlink.Handle, eth0, host netlink.Link, addr netip.Addr) error {
	entry := &netlink.Addr{IPNet: ipNet(alone(addr))}
	if addr.Is6() {
		entry.Flags = unix.IFA_F_NODAD // usable at once; nobody else is on this cable
	}
	if err := inside.AddrAdd(eth0, entry); err != nil {
		return fmt.Errorf("add address %v to the pod: %w", addr, err)
	}
	out := gateway(addr)
	routes := []*netlink.Route{{LinkIndex: eth0.Attrs().Index, Dst: ipNet(everything(addr)), Gw: out.AsSlice()}}
	if addr.Is4() { // a link-local IPv6 gateway is on the link anyway
		onLink := &netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: ipNet(alone(out)), Scope: netlink.SCOPE_LINK}
		routes = []*netlink.Route{onLink, routes[0]}
	}
	for _, r := range routes {
		if err := inside.RouteAdd(r); err != nil {
			return fmt.Errorf("add route to %v in the pod: %w", r.Dst, err)
		}
	}
	in := &netlink.Route{LinkIndex: host.Attrs().Index, Dst: ipNet(alone(addr))}
	if addr.Is4() {
		in.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteReplace(in); err != nil {
		return fmt.Errorf("add route to %v: %w", addr, err)
	}
	return nil
}

// disconnect removes the cable, and with it addresses and routes; that there is none is no error.
func (p pod) disconnect() error {
	link, err := netlink.LinkByName(p.hostEnd())
	if errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", p.hostEnd(), err)
	}
	return nil
}

func gateway(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return gateway4
	}
	return gateway6
}

// alone is the range that holds only this address.
func alone(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// everything is the default route's destination in the family of addr.
func everything(addr netip.Addr) netip.Prefix {
	if addr.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
