package lab

import (
	"fmt"
	"net/netip"
)

// The lab's addresses, the same in every lab: labs do not see each other.
//
//	switch         10.250.0.1         fd00:250::1     leads nowhere: the default route's black hole
//	control plane  10.250.0.10        fd00:250::10
//	node N         10.250.0.1N        fd00:250::1N
//	outside        10.250.0.100       fd00:250::100
//	pods of N      10.244.N.0/24      fd00:244:N::/64
//	Services       10.96.0.0/16       fd00:96::/112
//	router         10.250.0.200       fd00:250::200   if Options.Beyond; its other leg:
//	               192.0.2.1          2001:db8:0:2::1
//	beyond         192.0.2.10         2001:db8:0:2::10
//	load balancers 10.251.0.0/24      fd00:251::/64   outside and router reach them through node 1
type addresses struct{ family Family }

// Ranges that hold for all nodes.
var (
	podRanges          = pair{"10.244.0.0/16", "fd00:244::/32"}
	serviceRanges      = pair{"10.96.0.0/16", "fd00:96::/112"}
	loadBalancerRanges = pair{"10.251.0.0/24", "fd00:251::/64"}
	firstServices      = pair{"10.96.0.1", "fd00:96::1"}
)

// The control plane's port.
const apiServerPort = 6443

// pair is something written for IPv4 and for IPv6.
type pair [2]string

// pick is the value for each family in use, IPv4 first.
func (a addresses) pick(p pair) []string {
	var out []string
	if a.family.has4() {
		out = append(out, p[0])
	}
	if a.family.has6() {
		out = append(out, p[1])
	}
	return out
}

func (a addresses) prefixes(p pair) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range a.pick(p) {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func (a addresses) addrs(p pair) []netip.Addr {
	var out []netip.Addr
	for _, s := range a.pick(p) {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// onSwitch are the addresses of the switch's member with this last part.
func (a addresses) onSwitch(last int) []netip.Addr {
	return a.addrs(pair{fmt.Sprintf("10.250.0.%d", last), fmt.Sprintf("fd00:250::%d", last)})
}

func (a addresses) gateway() []netip.Addr      { return a.onSwitch(1) }
func (a addresses) controlPlane() []netip.Addr { return a.onSwitch(10) }
func (a addresses) node(i int) []netip.Addr    { return a.onSwitch(10 + i) }
func (a addresses) outside() []netip.Addr      { return a.onSwitch(100) }
func (a addresses) router() []netip.Addr       { return a.onSwitch(200) }

// routerInside are the addresses of the router's other leg, beyond those of the client behind it.
func (a addresses) routerInside() []netip.Addr { return a.addrs(pair{"192.0.2.1", "2001:db8:0:2::1"}) }
func (a addresses) beyond() []netip.Addr       { return a.addrs(pair{"192.0.2.10", "2001:db8:0:2::10"}) }

// pods are the pod ranges of node i.
func (a addresses) pods(i int) []netip.Prefix {
	return a.prefixes(pair{fmt.Sprintf("10.244.%d.0/24", i), fmt.Sprintf("fd00:244:%d::/64", i)})
}

// apiServer is the API server's URL.
func (a addresses) apiServer() string {
	return "https://" + netip.AddrPortFrom(a.controlPlane()[0], apiServerPort).String()
}

// switchBits is the prefix length on the switch, and behind the router.
func switchBits(addr netip.Addr) int {
	if addr.Is4() {
		return 24
	}
	return 64
}

// everything is the default route's destination in the family of addr.
func everything(addr netip.Addr) netip.Prefix {
	if addr.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}
