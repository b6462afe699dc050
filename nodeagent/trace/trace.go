// Package trace is the vocabulary that the plugin and the node agent share: the packet that was walked, the hops it
// passed, and the outcomes it can have. Its JSON is the agent's answer and part of the plugin's output; it is versioned
// by APIVersion and documented in docs/json.md.
//
// A Trace is a tree written flat: every hop stands once in Hops, and an Outcome names the hops of its way by their
// indexes, so that outcomes that share a prefix share its hops.
package trace

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"strconv"
)

// APIVersion is the version of the JSON that this package writes.
const APIVersion = "svctrace.dev/v1alpha1"

// Kind is the kind of a Trace object in JSON.
const Kind = "Trace"

// Trace says what one node's kernel does with one packet.
type Trace struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Packet is the packet as it entered the walk, before any translation.
	Packet Packet `json:"packet"`
	// Hops are the steps of all branches, each written once.
	Hops []Hop `json:"hops"`
	// Outcomes are the ends of the branches. Their probabilities add up to 1 when no condition and nothing unknown decides.
	Outcomes []Outcome `json:"outcomes"`
	// Reads counts what was read from the kernel for this trace.
	Reads Reads `json:"reads"`
}

// New returns an empty trace of a packet.
func New(p Packet) *Trace {
	return &Trace{APIVersion: APIVersion, Kind: Kind, Packet: p, Hops: []Hop{}, Outcomes: []Outcome{}}
}

// Packet is what a walk starts with.
type Packet struct {
	// Protocol is tcp, udp, sctp, icmp, icmpv6, or a protocol number.
	Protocol string `json:"protocol"`
	// Source and Destination are addresses with ports; ports are 0 for protocols without ports.
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	// In is the interface the packet came in by, empty when it starts in a process of the namespace (at OUTPUT).
	In string `json:"in,omitempty"`
	// Mark is the packet mark (skb->mark) it starts with.
	Mark Mark `json:"mark"`
	// Owner is as whom the process sends it; nil when that is not known, or when it does not start in a process.
	Owner *Owner `json:"owner,omitempty"`
}

// Owner is the owner of a sending socket.
type Owner struct {
	// User and Group are numbers of the user namespace that the network namespace belongs to; Group is nil when not known.
	User  uint32  `json:"user"`
	Group *uint32 `json:"group,omitempty"`
	// Groups are the supplementary groups; absent when not known.
	Groups []uint32 `json:"groups,omitempty"`
	// From says how it is known: a process, or the pod's specification.
	From string `json:"from,omitempty"`
}

// Mark is a 32-bit packet mark, written in JSON as a hexadecimal string such as "0x4000".
type Mark uint32

// String returns the mark as iptables prints it, for example 0x4000.
func (m Mark) String() string { return "0x" + strconv.FormatUint(uint64(m), 16) }

// MarshalJSON writes the mark as a hexadecimal string.
func (m Mark) MarshalJSON() ([]byte, error) { return json.Marshal(m.String()) }

// UnmarshalJSON reads what MarshalJSON writes; decimal numbers in a string are read too.
func (m *Mark) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("mark %s is not a string: %w", b, err)
	}
	v, err := ParseMark(s)
	if err != nil {
		return err
	}
	*m = v
	return nil
}

// ParseMark reads a mark in hexadecimal (0x…), octal (0…) or decimal form.
func ParseMark(s string) (Mark, error) {
	v, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("mark %q is not a 32-bit number: %w", s, err)
	}
	return Mark(v), nil
}

// Hop is one step of the explanation.
type Hop struct {
	// Node is the node's name, when it is known to the one who walks.
	Node string `json:"node,omitempty"`
	// Namespace is "host" for the namespace that the agent reads first, else a name for a pod's namespace.
	Namespace string `json:"namespace,omitempty"`
	// Hook is prerouting, input, forward, output, postrouting, ingress or egress; "route" for a routing decision and
	// "socket" for the end at a socket.
	Hook string `json:"hook"`
	// Table is the table, with its family for nftables ("ip kube-proxy") and its backend for legacy iptables
	// ("legacy nat"); empty for steps outside tables.
	Table string `json:"table,omitempty"`
	// Chain is the chain's name.
	Chain string `json:"chain,omitempty"`
	// Rule is the rule that acted, absent for chain policies, routes and conntrack.
	Rule *Rule `json:"rule,omitempty"`
	// Action is what happened: "jump KUBE-SERVICES", "dnat to 10.244.1.10:8080", "policy accept", "route via …".
	Action string `json:"action"`
	// Says explains the step in plain words, where the action alone does not.
	Says string `json:"says,omitempty"`
	// MTU is, for a routing decision, the largest packet in bytes that may leave that way: the route's own MTU, or that of
	// the interface. It is 0 for local routes and other steps.
	MTU int `json:"mtu,omitempty"`
	// Tunnel is how the packet is wrapped, where a tunnel interface does that; nil at other steps.
	Tunnel *Tunnel `json:"tunnel,omitempty"`
}

// Rule is one rule as the user's own tools show it.
type Rule struct {
	// Handle is the rule's handle in nftables, or its number in the chain (from 1) in legacy iptables.
	Handle uint64 `json:"handle"`
	// Text is the rule as iptables-save or nft list prints it.
	Text string `json:"text"`
	// Comment is the rule's comment, if it has one.
	Comment string `json:"comment,omitempty"`
	// Packets and Bytes are its counters; nil when it has none.
	Packets *uint64 `json:"packets,omitempty"`
	Bytes   *uint64 `json:"bytes,omitempty"`
}

// Verdict is how a branch ends.
type Verdict string

// The verdicts of an Outcome.
const (
	// Delivered: to a listening socket.
	Delivered Verdict = "delivered"
	// Forwarded: the packet leaves this node's view by an interface.
	Forwarded Verdict = "forwarded"
	// Local: this node's own stack takes it.
	Local Verdict = "local"
	// Rejected: dropped, and the sender is told (RejectWith).
	Rejected Verdict = "rejected"
	// Dropped: discarded without an answer.
	Dropped Verdict = "dropped"
	// Undetermined: the engine does not know (Unknown says what).
	Undetermined Verdict = "undetermined"
)

// Outcome is the end of one branch, after all translation.
type Outcome struct {
	Verdict Verdict `json:"verdict"`
	// Probability is this outcome's share of new connections; nil when a condition or something unknown decides.
	Probability *Probability `json:"probability,omitempty"`
	// Destination and Source are after all translation; a port that the kernel will choose is 0.
	Destination netip.AddrPort `json:"destination"`
	Source      netip.AddrPort `json:"source"`
	// Masqueraded is true when the source address was translated.
	Masqueraded bool `json:"masqueraded"`
	// RejectWith is the answer that a rejected packet gets: icmp-port-unreachable, tcp-reset, …
	RejectWith string `json:"rejectWith,omitempty"`
	// Out is the interface a forwarded packet leaves by, and NextHop the gateway it goes to, if any.
	Out     string     `json:"out,omitempty"`
	NextHop netip.Addr `json:"nextHop,omitzero"`
	// Mark is the packet's mark at the end; absent when it is 0 or differs between the ways that end so.
	Mark Mark `json:"mark,omitempty"`
	// Possible is, for an undetermined outcome, the verdict this branch has if what is unknown turns out as Reason says.
	Possible Verdict `json:"possible,omitempty"`
	// Reason says in one sentence why the branch ends so, for drops and rejects.
	Reason string `json:"reason,omitempty"`
	// Conditions are what must hold for this branch beyond the state read (a rate limit not exceeded, the time of day …).
	Conditions []string `json:"conditions"`
	// Unknown is what the engine could not evaluate on this branch.
	Unknown []Unknown `json:"unknown,omitempty"`
	// Tunnel is how a forwarded packet is wrapped when Out is a tunnel interface, nil when it is not.
	Tunnel *Tunnel `json:"tunnel,omitempty"`
	// Tracked are the connection tracking entries that the packet makes on this branch, in the order of the namespaces it
	// passes. They are what a reply would meet.
	Tracked []Tracked `json:"tracked,omitempty"`
	// Listener is the socket that takes a delivered packet, nil for other outcomes.
	Listener *Listener `json:"listener,omitempty"`
	// Path are the indexes into Hops of the steps that led here, in order.
	Path []int `json:"path"`
}

// Tunnel is the outer packet of an encapsulated one.
type Tunnel struct {
	// Kind is the interface's driver: vxlan, geneve, ipip, gre, wireguard, sit.
	Kind string `json:"kind"`
	// Device is the interface's name on the node that wraps the packet.
	Device string `json:"device,omitempty"`
	// ID is the VXLAN or Geneve network identifier.
	ID uint32 `json:"id,omitempty"`
	// GRE are the optional fields of a GRE header.
	GRE GRE `json:"gre,omitzero"`
	// Source and Destination are the outer addresses with the outer UDP ports, 0 where there are none or the kernel chooses.
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	// Sender and Receiver are the public keys of both ends of a WireGuard tunnel, in base64.
	Sender   string `json:"sender,omitempty"`
	Receiver string `json:"receiver,omitempty"`
	// Overhead is what the encapsulation adds to a packet, in bytes.
	Overhead int `json:"overhead"`
	// MTU is the tunnel interface's, in bytes. OuterDevice is the interface that the outer packet leaves by, and OuterMTU
	// what may leave there: the MTU of the outer packet's route, what the kernel has learnt about the path, or the
	// interface's.
	MTU         int    `json:"mtu"`
	OuterDevice string `json:"outerDevice,omitempty"`
	OuterMTU    int    `json:"outerMTU,omitempty"`
}

// GRE are the fields that a GRE header has beside those that every one has.
type GRE struct {
	// Key is the tunnel's, when Keyed.
	Key      uint32 `json:"key,omitempty"`
	Keyed    bool   `json:"keyed,omitempty"`
	Checksum bool   `json:"checksum,omitempty"`
	Sequence bool   `json:"sequence,omitempty"`
}

// Tracked is a connection tracking entry that a walked packet makes in one network namespace.
type Tracked struct {
	// Node and Namespace say where, as in a Hop; Key is the namespace's own name for the agent, "" for the node's.
	Node      string `json:"node,omitempty"`
	Namespace string `json:"namespace"`
	Key       string `json:"key,omitempty"`
	Protocol  string `json:"protocol"`
	// Source and Destination are those of the original direction; ReplySource and ReplyDestination of the reply. A port that
	// the kernel will choose is 0.
	Source           netip.AddrPort `json:"source"`
	Destination      netip.AddrPort `json:"destination"`
	ReplySource      netip.AddrPort `json:"replySource"`
	ReplyDestination netip.AddrPort `json:"replyDestination"`
	// Mark is the entry's; Zone and ReplyZone are the zones of its directions.
	Mark      Mark   `json:"mark,omitempty"`
	Zone      uint16 `json:"zone,omitempty"`
	ReplyZone uint16 `json:"replyZone,omitempty"`
}

// Listener is the socket that takes a packet, and how full it was when it was looked at.
type Listener struct {
	// Address is what it is bound to; Sockets counts those that share it (SO_REUSEPORT), of which the fullest is described.
	Address netip.AddrPort `json:"address"`
	Sockets int            `json:"sockets"`
	// Queue is what waits for the program, and QueueMax the limit: connections to be accepted for TCP (Recv-Q and Send-Q of
	// ss -lt), bytes of memory for UDP. Full is true when new connections or datagrams are dropped.
	Queue    uint32 `json:"queue"`
	QueueMax uint32 `json:"queueMax"`
	Full     bool   `json:"full,omitempty"`
	// Drops counts packets that the sockets have dropped since they were opened; for TCP it is 0 unless a listener of the
	// namespace has overflowed, because a listener also counts segments that belong to no connection. NamespaceOverflows and NamespaceDrops are
	// ListenOverflows and ListenDrops of all TCP listeners of the network namespace.
	Drops              uint64 `json:"drops,omitempty"`
	NamespaceOverflows uint64 `json:"namespaceOverflows,omitempty"`
	NamespaceDrops     uint64 `json:"namespaceDrops,omitempty"`
}

// Unknown names one thing that is not modelled, and where it stood.
type Unknown struct {
	What  string `json:"what"`
	Where string `json:"where,omitempty"`
}

// Reads counts what a trace read from the kernel.
type Reads struct {
	// Messages is the number of netlink messages received, of getsockopt and file reads, and of runs of a BPF program.
	Messages int `json:"messages"`
	// Bytes is the number of bytes they held.
	Bytes int64 `json:"bytes"`
	// Hooks tells how it is known what the kernel calls at its hooks; empty when it was not asked for.
	Hooks HookSource `json:"hooks,omitempty"`
}

// HookSource is how a walk knows what the kernel calls at its hooks, and in which order.
type HookSource string

// The sources, the better first.
const (
	// HooksListed: the kernel's own lists were read.
	HooksListed HookSource = "listed"
	// HooksDerived: from the tables and chains there are. Where the order of equal priorities is not known and matters, the
	// walk forks, and BPF programs at hooks are not seen.
	HooksDerived HookSource = "derived"
)

// Join returns what is true of two walks together.
func (h HookSource) Join(other HookSource) HookSource {
	if h == HooksDerived || other == "" {
		return h
	}
	return other
}

// Probability is an exact fraction, written in lowest terms: "1", "1/3".
type Probability struct{ r big.Rat }

// NewProbability returns the probability a/b. b must not be 0.
func NewProbability(a, b int64) *Probability {
	p := new(Probability)
	p.r.SetFrac64(a, b)
	return p
}

// ProbabilityOf returns a copy of r as a probability.
func ProbabilityOf(r *big.Rat) *Probability {
	p := new(Probability)
	p.r.Set(r)
	return p
}

// Rat returns a copy of the fraction.
func (p *Probability) Rat() *big.Rat { return new(big.Rat).Set(&p.r) }

// String returns the fraction in lowest terms; a whole number has no denominator.
func (p *Probability) String() string { return p.r.RatString() }

// Float returns the nearest float64, for statistics only.
func (p *Probability) Float() float64 { f, _ := p.r.Float64(); return f }

// MarshalJSON writes the fraction as a string.
func (p *Probability) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Probability) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("probability %s is not a string: %w", b, err)
	}
	if _, ok := p.r.SetString(s); !ok {
		return fmt.Errorf("probability %q is not a fraction", s)
	}
	if p.r.Sign() < 0 || p.r.Cmp(big.NewRat(1, 1)) > 0 {
		return fmt.Errorf("probability %s is not between 0 and 1", s)
	}
	return nil
}
