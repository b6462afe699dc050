package fib

import (
	"net/netip"
	"sync"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// State is what takes part in the routing decisions of one network namespace. It does not change once it has been asked,
// and may then be asked by several goroutines.
type State struct {
	// Interfaces are in the kernel's order (by index), which decides between equal source addresses.
	Interfaces []Interface `json:"interfaces"`
	// Rules4 and Rules6 are the policy rules, in the kernel's order.
	Rules4 []Rule `json:"rules4,omitempty"`
	Rules6 []Rule `json:"rules6,omitempty"`
	// Routes are the routes of all tables and both families; those of one table and prefix are in the kernel's order.
	Routes []Route `json:"routes,omitempty"`
	// CustomRules4 tells whether the namespace's IPv4 rules were ever touched (net->ipv4.fib_has_custom_rules). Until then
	// the local table is a part of the main one: the longer prefix wins, whichever table it is in, and every route is
	// reported as one of table main (net/ipv4/fib_frontend.c, fib_new_table; fib_trie.c, fib_trie_unmerge).
	CustomRules4 bool `json:"customRules4,omitempty"`
	// All4 and All6 are net.ipv4.conf.all and net.ipv6.conf.all.
	All4 Conf4 `json:"all4"`
	All6 Conf6 `json:"all6"`
	// HashPolicy4, HashFields4, HashPolicy6 and HashFields6 are net.ipv4.fib_multipath_hash_policy and _fields and those of
	// IPv6: what of a packet decides between the next hops of a multipath route.
	HashPolicy4 int `json:"hashPolicy4,omitempty"`
	HashFields4 int `json:"hashFields4,omitempty"`
	HashPolicy6 int `json:"hashPolicy6,omitempty"`
	HashFields6 int `json:"hashFields6,omitempty"`
	// Failed are the IPv6 neighbours that do not answer: a host that does not forward avoids them as routers (RFC 4861
	// 6.3.6, rt6_check_neigh of net/ipv6/route.c).
	Failed []Neighbour `json:"failed,omitempty"`

	once  sync.Once
	index *index
}

// Interface is a network interface with what routing knows of it.
type Interface struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	// Flags are the IFF_ bits, Group is the interface group (devgroup).
	Flags uint32 `json:"flags,omitempty"`
	Group uint32 `json:"group,omitempty"`
	// Master is the VRF's name when the interface belongs to one, VRFTable a VRF's own table.
	Master   string `json:"master,omitempty"`
	VRFTable uint32 `json:"vrfTable,omitempty"`
	// Addresses are in the kernel's order.
	Addresses []Address `json:"addresses,omitempty"`
	// Groups are the IPv4 multicast groups it has joined.
	Groups []netip.Addr `json:"groups,omitempty"`
	// IPv4 and IPv6 are net.ipv4.conf and net.ipv6.conf of the interface.
	IPv4 Conf4 `json:"ipv4"`
	IPv6 Conf6 `json:"ipv6"`
}

// Up reports whether the interface is administratively up.
func (i *Interface) Up() bool { return i.Flags&1 != 0 }

// Loopback reports whether it is a loopback interface.
func (i *Interface) Loopback() bool { return i.Flags&8 != 0 }

// Address is an address of an interface.
type Address struct {
	Prefix netip.Prefix `json:"prefix"`
	// Peer is the other end's address of a point-to-point address, else invalid.
	Peer netip.Addr `json:"peer,omitzero"`
	// Scope is the RT_SCOPE_ value; Flags are IFA_F_ bits.
	Scope uint8  `json:"scope,omitempty"`
	Flags uint32 `json:"flags,omitempty"`
}

// Bits of an address's flags (include/uapi/linux/if_addr.h).
const (
	flagSecondary  = 0x01 // for IPv6: temporary
	flagOptimistic = 0x04
	flagDeprecated = 0x20
	flagTentative  = 0x40
)

// subnet is the prefix that inet_ifa_match compares: of the peer when there is one.
func (a Address) subnet() netip.Prefix {
	if a.Peer.IsValid() {
		return netip.PrefixFrom(a.Peer, a.Prefix.Bits()).Masked()
	}
	return a.Prefix.Masked()
}

// Conf4 are the sysctls of net.ipv4.conf that take part in routing.
type Conf4 struct {
	Forwarding       bool `json:"forwarding,omitempty"`
	BCForwarding     bool `json:"bcForwarding,omitempty"`
	AcceptLocal      bool `json:"acceptLocal,omitempty"`
	RouteLocalnet    bool `json:"routeLocalnet,omitempty"`
	SrcValidMark     bool `json:"srcValidMark,omitempty"`
	IgnoreLinkdown   bool `json:"ignoreRoutesWithLinkdown,omitempty"`
	RPFilter         int  `json:"rpFilter,omitempty"`
	MulticastForward bool `json:"mcForwarding,omitempty"`
	// SendRedirects takes part too: a packet that would leave by the interface it came in by has its source checked in full.
	SendRedirects bool `json:"sendRedirects,omitempty"`
}

// Conf6 are the sysctls of net.ipv6.conf that take part in routing.
type Conf6 struct {
	Forwarding      bool `json:"forwarding,omitempty"`
	ForceForwarding bool `json:"forceForwarding,omitempty"`
	IgnoreLinkdown  bool `json:"ignoreRoutesWithLinkdown,omitempty"`
	Disabled        bool `json:"disableIPv6,omitempty"`
	OutAddrsOnly    bool `json:"useOifAddrsOnly,omitempty"`
	UseOptimistic   bool `json:"useOptimistic,omitempty"`
	UseTempAddr     int  `json:"useTempaddr,omitempty"`
}

// Neighbour is a next hop on a link.
type Neighbour struct {
	Dev  string     `json:"dev"`
	Addr netip.Addr `json:"addr"`
}

// Route is a route of one table.
type Route struct {
	Table uint32 `json:"table"`
	// Dst is the destination prefix. Src is the source prefix of an IPv6 route that has one (CONFIG_IPV6_SUBTREES).
	Dst netip.Prefix `json:"dst"`
	Src netip.Prefix `json:"src,omitzero"`
	// Type is unicast, local …, TOS the IPv4 TOS that it is for, 0 for any.
	Type node.RouteType `json:"type"`
	TOS  uint8          `json:"tos,omitempty"`
	// Metric is the priority; the lowest is taken first.
	Metric uint32 `json:"metric,omitempty"`
	// Scope is the RT_SCOPE_ value, Protocol the RTPROT_ value: who made the route.
	Scope    uint8      `json:"scope,omitempty"`
	Protocol uint8      `json:"protocol,omitempty"`
	PrefSrc  netip.Addr `json:"prefSrc,omitzero"`
	MTU      int        `json:"mtu,omitempty"`
	// Pref is the IPv6 router preference as the kernel numbers it: 0 medium, 1 high, 3 low.
	Pref uint8 `json:"pref,omitempty"`
	// Hops are the next hops: none for IPv4 routes that refuse, several for a multipath route.
	Hops []Hop `json:"hops,omitempty"`
}

// Hop is a next hop of a route.
type Hop struct {
	Dev string `json:"dev"`
	// Gateway is the router, invalid for a destination on the link; an IPv4 route may have an IPv6 one.
	Gateway netip.Addr `json:"gateway,omitzero"`
	// Weight is its share, at least 1.
	Weight int `json:"weight,omitempty"`
	// Flags are RTNH_F_ bits; Realm is the realm of the route (RTA_FLOW).
	Flags uint8  `json:"flags,omitempty"`
	Realm uint32 `json:"realm,omitempty"`
}

// RTNH_F_ bits (include/uapi/linux/rtnetlink.h).
const (
	hopDead     = 0x01
	hopOnlink   = 0x04
	hopLinkdown = 0x10
)

// The tables with names, and RT_SCOPE_ values.
const (
	tableDefault = 253
	tableMain    = 254
	tableLocal   = 255

	scopeUniverse = 0
	scopeLink     = 253
	scopeHost     = 254

	protocolKernel = 2
)

// index is what lookups need, built when the state is first asked.
type index struct {
	links  map[string]*Interface
	tables map[uint32]*table4
	// merged is the local and the main table as one.
	merged  *table4
	tables6 map[uint32]*table6
	failed  map[Neighbour]bool
	// localRoutes tells of local IPv4 routes that a user made; realms of routes or rules with realms.
	localRoutes, realms bool
	// dissects tells of IPv4 rules that make the kernel read ports of packets that arrive (fib_rules_require_fldissect).
	dissects bool
}

func (s *State) indexed() *index {
	s.once.Do(func() { s.index = s.build() })
	return s.index
}

func (s *State) build() *index {
	x := &index{
		links: map[string]*Interface{}, tables: map[uint32]*table4{}, merged: newTable4(),
		tables6: map[uint32]*table6{}, failed: map[Neighbour]bool{},
	}
	for i := range s.Interfaces {
		x.links[s.Interfaces[i].Name] = &s.Interfaces[i]
	}
	for _, n := range s.Failed {
		x.failed[n] = true
	}
	for i := range s.Rules4 {
		r := &s.Rules4[i]
		x.realms = x.realms || r.Realm != 0
		x.dissects = x.dissects || r.IIF != loopbackName && (r.Proto != 0 || r.SrcPorts != (Ports{}) || r.DstPorts != (Ports{}))
	}
	var main []*Route
	for i := range s.Routes {
		r := &s.Routes[i]
		if !r.Dst.Addr().Is4() {
			t := x.tables6[r.Table]
			if t == nil {
				t = newTable6()
				x.tables6[r.Table] = t
			}
			t.add(r)
			continue
		}
		t := x.tables[r.Table]
		if t == nil {
			t = newTable4()
			x.tables[r.Table] = t
		}
		t.add(r)
		switch r.Table {
		case tableLocal:
			x.merged.add(r)
		case tableMain:
			main = append(main, r)
		}
		x.localRoutes = x.localRoutes || r.Type == node.RouteLocal && r.Protocol != protocolKernel
		for _, h := range r.Hops {
			x.realms = x.realms || h.Realm != 0
		}
	}
	// Of equal prefixes the local table's come first (fib_find_alias sorts by table, the highest first).
	for _, r := range main {
		x.merged.add(r)
	}
	return x
}

// link returns the interface with a name, or nil.
func (s *State) link(name string) *Interface { return s.indexed().links[name] }

// loopbackName is the name of the loopback device, which is also what rules mean by the input interface of local packets.
const loopbackName = "lo"
