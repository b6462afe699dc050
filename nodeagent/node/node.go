// Package node is what the walker may ask of a node's network namespace, as small interfaces. Package live answers from
// the running kernel; a recording answers from a file.
//
// Every method returns an error when the state could not be read: an empty answer always means that there is nothing.
package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// ErrPermission is in the chain of errors that say which capability is missing.
var ErrPermission = errors.New("permission denied")

// ErrNotFound is in the chain of errors about an object that is not there (a chain, a set, an element).
var ErrNotFound = errors.New("not found")

// ErrNotSupported is in the chain of errors about something that this kernel does not have.
var ErrNotSupported = errors.New("not supported by this kernel")

// ReadError says what could not be read, and why.
type ReadError struct {
	// What was read: "nftables chains", "iptables nat table".
	What string
	// Needs names the capability that is missing, when permission was denied.
	Needs string
	Err   error
}

// Error returns one sentence.
func (e *ReadError) Error() string {
	if e.Needs != "" {
		return fmt.Sprintf("reading %s: %v (needs %s)", e.What, e.Err, e.Needs)
	}
	return fmt.Sprintf("reading %s: %v", e.What, e.Err)
}

// Unwrap returns the cause.
func (e *ReadError) Unwrap() error { return e.Err }

// Link is a network interface.
type Link struct {
	Name  string
	Index int
	// Group is the interface group (devgroup), Type the ARPHRD type, Kind the driver kind ("veth", "bridge"), MTU in bytes.
	Group uint32
	Type  uint16
	Kind  string
	MTU   int
	// Flags are the IFF_ bits.
	Flags uint32
	// Qdisc is the kind of the queueing discipline that packets leave by ("noqueue", "fq_codel"), "" when it is not known.
	Qdisc string
	// Master is the index of the bridge, bond or VRF it belongs to, 0 for none.
	Master int
	// VRFTable is the routing table of a VRF, 0 for other kinds.
	VRFTable uint32
	// HardwareAddr is the MAC address, nil when it has none.
	HardwareAddr []byte
	// CallIPTables and CallIP6Tables are a bridge's own nf_call_iptables and nf_call_ip6tables, Hairpin a port's hairpin mode.
	CallIPTables, CallIP6Tables, Hairpin bool
	// Peer is the index of a veth's other end, in the namespace that PeerNamespace tells by the number it has here: -1 for
	// this namespace. Peer is 0 for other kinds.
	Peer          int
	PeerNamespace int32
	// Tunnel tells how a tunnel interface wraps packets, nil for other kinds.
	Tunnel *Tunnel
}

// Up reports whether the interface is administratively up.
func (l Link) Up() bool { return l.Flags&1 != 0 }

// Loopback reports whether it is a loopback interface.
func (l Link) Loopback() bool { return l.Flags&8 != 0 }

// Address is an address of an interface.
type Address struct {
	// Link is the interface's index.
	Link   int
	Prefix netip.Prefix
	// Peer is the other end's address of a point-to-point address, else invalid.
	Peer netip.Addr
	// Scope is the RT_SCOPE_ value; Flags are IFA_F_ bits (secondary 1, temporary, deprecated, tentative).
	Scope uint8
	Flags uint32
}

// Links lists interfaces and their addresses, in the kernel's order.
type Links interface {
	Links(ctx context.Context) ([]Link, error)
	Addresses(ctx context.Context) ([]Address, error)
}

// Neighbour is an entry of the neighbour table.
type Neighbour struct {
	Link         int
	Addr         netip.Addr
	HardwareAddr []byte
}

// Neighbours reads who is behind which interface.
type Neighbours interface {
	// Neighbours returns the resolved entries of the neighbour tables.
	Neighbours(ctx context.Context) ([]Neighbour, error)
	// BridgePort returns the port of a bridge behind which its forwarding database has a hardware address, or "".
	BridgePort(ctx context.Context, bridge int, hw []byte) (string, error)
	// TunnelRemote returns the outer destination that a tunnel interface's forwarding database has for a hardware address,
	// with its port, 0 for the interface's own. The address is invalid when there is none.
	TunnelRemote(ctx context.Context, link int, hw []byte) (netip.Addr, uint16, error)
}

// DevicePrograms tells what is attached to an interface outside netfilter: XDP, tc filters, tcx.
type DevicePrograms interface {
	// DevicePrograms names each of them, for packets that arrive on the interface or, with egress, that leave by it.
	DevicePrograms(ctx context.Context, index int, egress bool) ([]string, error)
}

// WireGuards reads WireGuard interfaces.
type WireGuards interface {
	// WireGuard reads an interface by its index. It returns ErrNotSupported where the kernel has no WireGuard of its own.
	WireGuard(ctx context.Context, link int) (WireGuardDevice, error)
}

// WireGuardKey is a public key.
type WireGuardKey [32]byte

// WireGuardDevice is a WireGuard interface.
type WireGuardDevice struct {
	PublicKey WireGuardKey
	// Port is the UDP port that it sends from and listens on; Mark is put on the packets it sends.
	Port  uint16
	Mark  uint32
	Peers []WireGuardPeer
}

// WireGuardPeer is who else has the tunnel.
type WireGuardPeer struct {
	PublicKey WireGuardKey
	// Endpoint is where it was last heard from or is configured to be, invalid when neither.
	Endpoint netip.AddrPort
	// Allowed are the addresses behind it: packets to them go to it, and only packets from them are taken from it.
	Allowed []netip.Prefix
}

// For returns the peer that an address is behind, by the longest of the prefixes (wg_allowedips_lookup_dst); nil when there
// is none.
func (d *WireGuardDevice) For(a netip.Addr) *WireGuardPeer {
	var (
		out  *WireGuardPeer
		bits = -1
	)
	for i := range d.Peers {
		for _, p := range d.Peers[i].Allowed {
			if p.Contains(a) && p.Bits() > bits {
				out, bits = &d.Peers[i], p.Bits()
			}
		}
	}
	return out
}

// Peer returns the peer with a key, nil when there is none.
func (d *WireGuardDevice) Peer(k WireGuardKey) *WireGuardPeer {
	for i := range d.Peers {
		if d.Peers[i].PublicKey == k {
			return &d.Peers[i]
		}
	}
	return nil
}

// RouteQuery asks the routing tables for the way of a packet.
type RouteQuery struct {
	Dst netip.Addr
	// Src is the source address; invalid when not yet chosen (output only).
	Src netip.Addr
	// In is the interface the packet came in by: then the input routing decision is asked, checks of the source included.
	In string
	// Out restricts the lookup to routes by this interface (output only).
	Out string
	// Mark is the packet's mark, for policy rules.
	Mark             uint32
	Proto            uint8
	SrcPort, DstPort uint16
	// UID is the owner of the sending socket, nil when there is none.
	UID *uint32
	// TOS is the type of service byte.
	TOS uint8
	// All asks for the route's other next hops too (Route.Hops).
	All bool
}

// NextHop is one way of a multipath route.
type NextHop struct {
	Out     string
	Gateway netip.Addr
	// Weight is its share among the route's next hops, at least 1.
	Weight int
	// PrefSrc is the source address that the kernel would choose with it, in Route.OneOf only.
	PrefSrc netip.Addr
}

// RouteType is the kernel's type of a route (RTN_ values).
type RouteType uint8

// The route types.
const (
	RouteUnicast     RouteType = 1
	RouteLocal       RouteType = 2
	RouteBroadcast   RouteType = 3
	RouteAnycast     RouteType = 4
	RouteMulticast   RouteType = 5
	RouteBlackhole   RouteType = 6
	RouteUnreachable RouteType = 7
	RouteProhibit    RouteType = 8
	RouteThrow       RouteType = 9
)

// Route is the answer to a RouteQuery.
type Route struct {
	Type RouteType
	// Out is the interface the packet leaves by (lo for local routes of the output direction).
	Out string
	// Gateway is the next hop, invalid when the destination is on the link.
	Gateway netip.Addr
	// PrefSrc is the source address the kernel would choose.
	PrefSrc netip.Addr
	// Table is the routing table that answered.
	Table uint32
	// MTU of the route in bytes, 0 when it has none of its own.
	MTU int
	// PathMTU is what the kernel has learnt from messages about the path to the destination, in bytes, until it forgets it;
	// 0 when it has learnt nothing.
	PathMTU int
	// Encap is how the route wraps packets (a lightweight tunnel), its zero value when it does not.
	Encap Encap
	// Hops are all next hops of a multipath route, when the query asked for them; nil when there is one only.
	Hops []NextHop
	// OneOf are the next hops among which the kernel chooses by a hash whose key it keeps to itself, so that a model cannot
	// tell which. Out, Gateway, and PrefSrc where it depends on the choice, are then empty. A hop that the kernel refuses
	// once it has chosen it is left out. It is nil when the choice is known, as in every answer of the kernel.
	OneOf []NextHop
}

// Uses reports whether the route may leave by an interface (fib_info_nh_uses_dev).
func (r Route) Uses(dev string) bool {
	for _, hops := range [][]NextHop{r.Hops, r.OneOf} {
		for _, h := range hops {
			if h.Out == dev {
				return true
			}
		}
	}
	return r.Out == dev
}

// RouteError is the kernel's refusal of a packet in a routing decision.
type RouteError struct {
	// Errno is the kernel's error name: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL, EXDEV.
	Errno string
	// Number is its value.
	Number int
	// Reason names the rule, route or sysctl that decided, "" when that is not known:
	// "net.ipv4.conf.eth0.rp_filter is 1: the way back to 10.0.0.5 is by eth1".
	Reason string
}

// Error returns the error's name, and the reason when it is known.
func (e *RouteError) Error() string {
	if e.Reason != "" {
		return "route lookup: " + e.Errno + ": " + e.Reason
	}
	return "route lookup: " + e.Errno
}

// FIBQuery is a bare lookup in the routing tables by the policy rules, as packet filters make it: no check of the source,
// no choice of a source address.
type FIBQuery struct {
	Dst, Src netip.Addr
	// In is the input interface that the rules see; "" stands for lo, as in the lookups of packet filters.
	In string
	// Out is the flow's output interface: a restriction for IPv4, and for IPv6 with Strict; else a preference.
	Out string
	// Strict is RT6_LOOKUP_F_IFACE, IPv6 only.
	Strict           bool
	Mark             uint32
	Proto            uint8
	SrcPort, DstPort uint16
	TOS              uint8
}

// Router answers routing decisions. A refusal is a *RouteError.
type Router interface {
	Route(ctx context.Context, q RouteQuery) (Route, error)
	// SourceRules tells whether a policy rule of the family looks at a packet's source or input interface. A lookup for
	// an address that is not this host's own cannot carry a source, so where it is true such a lookup is not exact.
	SourceRules(ctx context.Context, ipv6 bool) (bool, error)
	// FIBLookup is fib_lookup of IPv4 (without regard for the link's state) and ip6_route_lookup of IPv6: exact where
	// SourceRules is true, at the price of reading all rules and routes. Out is the interface of the route's next hop, of
	// local routes too; Hops are all of its next hops. It returns a *RouteError when there is no way, and another error
	// when the tables could not be read or are too large to.
	FIBLookup(ctx context.Context, q FIBQuery) (Route, error)
}

// AddrTyper tells the kernel's type of an address (inet_addr_type): local, unicast, broadcast … dev restricts the lookup
// to one interface's addresses when not empty (inet_dev_addr_type), and vrf is the interface whose VRF's table is used.
type AddrTyper interface {
	AddrType(ctx context.Context, a netip.Addr, dev string) (RouteType, error)
}

// Conntrack reads the connection tracking table.
type Conntrack interface {
	// Lookup returns the entry that t belongs to in either direction, and whether t is its reply direction.
	// It returns ErrNotFound when there is none.
	Lookup(ctx context.Context, t skb.Tuple, zone uint16) (c *skb.Conn, reply bool, err error)
}

// Sysctls reads /proc/sys of the namespace; name has slashes: "net/ipv4/ip_forward". A missing one is ErrNotFound.
type Sysctls interface {
	Sysctl(ctx context.Context, name string) (string, error)
}

// LegacyTables reads legacy iptables tables. Tables that were never used in the namespace are not listed: reading one
// would create it.
type LegacyTables interface {
	LegacyTables(ctx context.Context, f skb.Family) ([]string, error)
	// LegacyTable returns struct ipt_getinfo (or its IPv6 form) and the entries blob behind struct ipt_get_entries.
	LegacyTable(ctx context.Context, f skb.Family, table string) (info, entries []byte, err error)
}

// NFTFamily is an nftables family in the kernel's numbers (NFPROTO_).
type NFTFamily uint8

// The nftables families.
const (
	NFTInet   NFTFamily = 1
	NFTIPv4   NFTFamily = 2
	NFTARP    NFTFamily = 3
	NFTNetdev NFTFamily = 5
	NFTBridge NFTFamily = 7
	NFTIPv6   NFTFamily = 10
)

// String returns the family's name as nft prints it.
func (f NFTFamily) String() string {
	switch f {
	case NFTInet:
		return "inet"
	case NFTIPv4:
		return "ip"
	case NFTARP:
		return "arp"
	case NFTNetdev:
		return "netdev"
	case NFTBridge:
		return "bridge"
	case NFTIPv6:
		return "ip6"
	}
	return fmt.Sprintf("family %d", uint8(f))
}

// NFTables reads nftables by netlink. Answers are the attributes of one netlink message each (behind struct nfgenmsg),
// undecoded: package nftables decodes them.
type NFTables interface {
	// NFTTables returns the NFT_MSG_NEWTABLE messages of all families, with the family of each.
	NFTTables(ctx context.Context) ([]NFTObject, error)
	// NFTChains returns the NFT_MSG_NEWCHAIN messages of all families.
	NFTChains(ctx context.Context) ([]NFTObject, error)
	// NFTBaseChains returns those of the chains of one family that are attached to a hook.
	NFTBaseChains(ctx context.Context, f NFTFamily) ([]NFTObject, error)
	// NFTChain returns one chain, or ErrNotFound.
	NFTChain(ctx context.Context, f NFTFamily, table, chain string) (NFTObject, error)
	// NFTRules returns the NFT_MSG_NEWRULE messages of one chain, in order.
	NFTRules(ctx context.Context, f NFTFamily, table, chain string) ([][]byte, error)
	// NFTRulesFor returns those of a packet that misses the rules for which misses returns true: a long chain is read without
	// most of them. misses gets the message of a rule, or one that ends behind any of the rule's expressions, and must not
	// keep it.
	NFTRulesFor(ctx context.Context, f NFTFamily, table, chain string, misses func(rule []byte) bool) (NFTRules, error)
	// NFTSet returns the NFT_MSG_NEWSET message of one set, or ErrNotFound.
	NFTSet(ctx context.Context, f NFTFamily, table, set string) ([]byte, error)
	// NFTElement looks one key up as the kernel's datapath would, and returns the element's attributes, or ErrNotFound.
	// Interval sets cannot be asked so: use NFTElements.
	NFTElement(ctx context.Context, f NFTFamily, table, set string, key []byte) ([]byte, error)
	// NFTElements returns the attributes of every element, in the kernel's order.
	NFTElements(ctx context.Context, f NFTFamily, table, set string) ([][]byte, error)
	// NFTObject returns the NFT_MSG_NEWOBJ message of a stateful object (counter, quota, limit, ct helper …), or ErrNotFound.
	NFTObject(ctx context.Context, f NFTFamily, table, name string, typ uint32) ([]byte, error)
	// NFTObjects returns the NFT_MSG_NEWOBJ messages of all families.
	NFTObjects(ctx context.Context) ([]NFTObject, error)
	// NFTGeneration returns the generation counter of the rule set.
	NFTGeneration(ctx context.Context) (uint32, error)
}

// NFTRules are rules of one chain, in order: all, or some.
type NFTRules struct {
	// Rules are their NFT_MSG_NEWRULE messages.
	Rules [][]byte
	// Numbers are their places in the chain, from 0 on; nil when these are all rules.
	Numbers []int
}

// NFTObject is a netlink message's attributes with the family of its header.
type NFTObject struct {
	Family NFTFamily
	Attrs  []byte
}

// Recents reads the lists of the xt_recent match.
type Recents interface {
	// Recent returns the addresses of a list with the age of their time stamps, or ErrNotFound.
	Recent(ctx context.Context, list string, f skb.Family) ([]RecentEntry, error)
}

// RecentEntry is one address of a recent list.
type RecentEntry struct {
	Addr netip.Addr
	TTL  uint8
	// AgesMillis are the times since each stamp, newest first, in milliseconds.
	AgesMillis []int64
}

// IPSets asks the kernel about ipset membership.
type IPSets interface {
	// IPSetName returns the name of the set with a kernel index, as the set match stores it.
	IPSetName(ctx context.Context, index uint16) (string, error)
	// IPSet returns a set's header, or ErrNotFound.
	IPSet(ctx context.Context, name string) (IPSet, error)
	// IPSetTest tells whether the entry, written as ipset's netlink data attributes, is in the set.
	IPSetTest(ctx context.Context, name string, family skb.Family, data []byte) (bool, error)
	// IPSetMembers lists a list:set's member sets, in order.
	IPSetMembers(ctx context.Context, name string) ([]string, error)
}

// IPSet is a set's header.
type IPSet struct {
	Name string
	// Type is the type's name, such as hash:ip,port.
	Type     string
	Revision uint8
	// Family is IPv4, IPv6, or 0 for types without one.
	Family skb.Family
	// HasTimeout, HasCounters and HasSkbInfo tell its extensions.
	HasTimeout, HasCounters, HasSkbInfo bool
	// PortFrom and PortTo bound a bitmap:port.
	PortFrom, PortTo uint16
	// Netmask is the prefix length entries are masked with, 0 for none.
	Netmask uint8
}

// Sockets finds sockets of the namespace.
type Sockets interface {
	// Listening returns the sockets that a packet to dst would reach: TCP listeners or bound UDP sockets.
	Listening(ctx context.Context, proto uint8, dst netip.AddrPort) ([]Socket, error)
	// OnPort returns all listening sockets with that port, whatever their address.
	OnPort(ctx context.Context, proto uint8, f skb.Family, port uint16) ([]Socket, error)
}

// SocketCounters reads what the namespace counts about its sockets.
type SocketCounters interface {
	// ListenCounters returns what the namespace's TCP listeners together have turned away since it came to be.
	ListenCounters(ctx context.Context) (ListenCounters, error)
}

// ListenCounters are ListenOverflows and ListenDrops of /proc/net/netstat: connections that came while a listener's queue
// was full, and those that were not taken for this or any other reason.
type ListenCounters struct{ Overflows, Drops uint64 }

// Socket is a listening socket.
type Socket struct {
	Local netip.AddrPort
	UID   uint32
	Inode uint64
	// Interface is the index it is bound to, 0 for any.
	Interface int
	// V6Only tells an IPv6 wildcard socket that takes no IPv4.
	V6Only bool
	// Queue is what has arrived and was not fetched by the program, and QueueMax how much of it the socket takes:
	// connections that wait to be accepted for a TCP listener (Recv-Q and Send-Q of ss), bytes of memory for others.
	Queue, QueueMax uint32
	// Drops counts the packets that the socket has discarded since it was made, mostly because its queue was full.
	Drops uint32
	// Listener is true for TCP.
	Listener bool
}

// Full reports whether the socket takes no more: a listener counts one connection beyond its limit (sk_acceptq_is_full).
func (s Socket) Full() bool {
	if s.Listener {
		return s.Queue > s.QueueMax
	}
	return s.QueueMax > 0 && s.Queue >= s.QueueMax
}

// VirtualServers tells about IPVS.
type VirtualServers interface {
	// VirtualServer tells whether IPVS has a virtual server for a destination, or for the packet's mark.
	VirtualServer(ctx context.Context, proto uint8, dst netip.AddrPort, mark uint32) (bool, error)
	// RealServer tells whether a virtual server of IPVS sends connections to an address, and thus may translate what comes
	// from there. A port of 0 is any.
	RealServer(ctx context.Context, proto uint8, src netip.AddrPort) (bool, error)
}

// Namespace is everything the walker asks of one network namespace.
type Namespace interface {
	Links
	DevicePrograms
	WireGuards
	Neighbours
	Router
	AddrTyper
	Conntrack
	Sysctls
	LegacyTables
	NFTables
	Hooks
	Recents
	IPSets
	Sockets
	SocketCounters
	VirtualServers
	IPsec
	SocketPrograms
}

// Home is the id of the namespace that a Node was opened in.
const Home = ""

// Node opens the network namespaces of one machine.
type Node interface {
	// Namespace returns the state of a namespace by the id that Peer or Hosting gave, and a name for people: "host" for
	// Home.
	Namespace(ctx context.Context, id string) (ns Namespace, label string, err error)
	// Peer returns the namespace at the other end of a veth interface of namespace id, and the interface's name there. It
	// returns ErrNotFound when no process and no name keeps that namespace, so that it cannot be opened.
	Peer(ctx context.Context, id string, veth Link) (peer, name string, err error)
	// Serves names the process that owns a socket of a namespace, as "pid 812 /server"; "" when none is found.
	Serves(id string, inode uint64) string
}
