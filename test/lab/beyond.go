package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Names of the namespaces that Options.Beyond adds.
const (
	routerName = "router"
	beyondName = "beyond"
)

// beyondRanges is the network behind the router.
var beyondRanges = pair{"192.0.2.0/24", "2001:db8:0:2::/64"}

// addBeyond makes the client behind the router, which must be plugged into the switch, and connects the two: the
// router's eth1 to the client's eth0.
func addBeyond(a addresses) error {
	ns, err := addNamespace(beyondName)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := inNamespace(namedNamespace(beyondName), member{}.sysctls); err != nil {
		return err
	}
	routerNS, err := netns.GetFromPath(namedNamespace(routerName))
	if err != nil {
		return fmt.Errorf("open the router's namespace: %w", err)
	}
	defer routerNS.Close()
	router, err := netlink.NewHandleAt(routerNS)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer router.Close()
	beyond, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer beyond.Close()

	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "eth1"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns)),
	}
	if err := router.LinkAdd(veth); err != nil {
		return fmt.Errorf("make cable: %w", err)
	}
	eth1, err := router.LinkByName("eth1")
	if err != nil {
		return fmt.Errorf("find eth1: %w", err)
	}
	eth0, err := beyond.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	if err := addAddresses(router, eth1, a.routerInside()); err != nil {
		return err
	}
	if err := addAddresses(beyond, eth0, a.beyond()); err != nil {
		return err
	}
	if err := raise(router, "eth1"); err != nil {
		return err
	}
	for _, name := range []string{"lo", "eth0"} {
		if err := raise(beyond, name); err != nil {
			return err
		}
	}
	for _, via := range a.routerInside() {
		if err := (route{everything(via), via}).add(beyond, eth0); err != nil {
			return err
		}
	}
	return nil
}
