package wire

import (
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// ProbeRequest asks for real connections: it is the only request upon which the agent sends packets.
type ProbeRequest struct {
	// Protocol is tcp, udp or sctp.
	Protocol string `json:"protocol"`
	// Source is the client's address: the connections are opened in the network namespace on the node that has it. The zero
	// address means the node's own namespace and the address that it would choose.
	Source netip.Addr `json:"source,omitzero"`
	// Destination is where the connections go.
	Destination netip.AddrPort `json:"destination"`
	// User and Group are those that the connections are opened as; nil for the agent's own.
	User  *uint32 `json:"user,omitempty"`
	Group *uint32 `json:"group,omitempty"`
	// Count is the number of connections, 1 to MaxProbes; 0 means 1.
	Count int `json:"count"`
	// TimeoutMillis bounds the wait for each connection's answer, up to MaxProbeTimeoutMillis; 0 means 2000.
	TimeoutMillis int `json:"timeoutMillis"`
	// Rules are the rules whose counters are read before and after: those that a walk of the same packet names.
	Rules []ProbeRule `json:"rules,omitempty"`
}

// The bounds of a ProbeRequest.
const (
	MaxProbes             = 200
	MaxProbeTimeoutMillis = 10_000
)

// ProbeRule names one rule as a trace's hop does.
type ProbeRule struct {
	// Namespace is the hop's name of the network namespace: "host", or another one that the probe passes.
	Namespace string `json:"namespace"`
	// Table is "ip kube-proxy" for nftables, "legacy nat" or "legacy ip6 nat" for legacy iptables.
	Table string `json:"table"`
	Chain string `json:"chain"`
	// Handle is the rule's handle in nftables, its number in the chain in legacy iptables.
	Handle uint64 `json:"handle"`
}

// ProbeRules lists the rules with counters that the hops of a trace on a node name, each once. Hops without a node are of
// the one that was walked.
func ProbeRules(t *trace.Trace, node string) []ProbeRule {
	var out []ProbeRule
	seen := map[ProbeRule]bool{}
	for _, h := range t.Hops {
		if h.Rule == nil || h.Rule.Packets == nil || h.Node != "" && h.Node != node {
			continue
		}
		r := ProbeRule{Namespace: h.Namespace, Table: h.Table, Chain: h.Chain, Handle: h.Rule.Handle}
		if !seen[r] {
			seen[r] = true
			out = append(out, r)
		}
	}
	return out
}

// ProbeAnswer is what happened to the connections, by what the kernel says.
type ProbeAnswer struct {
	Protocol    string         `json:"protocol"`
	Destination netip.AddrPort `json:"destination"`
	// Namespace is where the connections were opened: "host", or the name of a pod's namespace.
	Namespace string `json:"namespace"`
	// Attempts are the connections, in the order in which they were opened.
	Attempts []ProbeAttempt `json:"attempts"`
	// Counters are those of the requested rules that moved meanwhile. Other traffic moves them too.
	Counters []ProbeCounter `json:"counters"`
	// Notes say what could not be watched, and why.
	Notes []string `json:"notes,omitempty"`
}

// ProbeResult is how one connection came out.
type ProbeResult string

// The results of a connection.
const (
	// ProbeConnected: the connection was established (TCP, SCTP).
	ProbeConnected ProbeResult = "connected"
	// ProbeAnswered: a datagram came back (UDP).
	ProbeAnswered ProbeResult = "answered"
	// ProbeRefused: ECONNREFUSED, by a TCP reset or an ICMP message (By).
	ProbeRefused ProbeResult = "refused"
	// ProbeReset: the connection was established and reset.
	ProbeReset ProbeResult = "reset"
	// ProbeUnreachable: the network, the host or a filter's ICMP message said that there is no way.
	ProbeUnreachable ProbeResult = "unreachable"
	// ProbeTimeout: nothing came within the time limit. A UDP server may have no answer to give.
	ProbeTimeout ProbeResult = "timeout"
	// ProbeFailed: the connection could not be tried, or was forbidden before it left (Errno).
	ProbeFailed ProbeResult = "error"
)

// Succeeded reports whether something answered.
func (r ProbeResult) Succeeded() bool { return r == ProbeConnected || r == ProbeAnswered }

// ProbeAttempt is one connection.
type ProbeAttempt struct {
	// Source is the client's end.
	Source netip.AddrPort `json:"source"`
	Result ProbeResult    `json:"result"`
	// Errno is the error's name, such as ECONNREFUSED; empty without one.
	Errno string `json:"errno,omitempty"`
	// By says who refused, where the kernel tells: "icmp port-unreachable from 10.0.0.1".
	By string `json:"by,omitempty"`
	// Micros is the time until the result, in microseconds.
	Micros int64 `json:"micros"`
	// Peer is where the socket really went, when a program at the socket changed that before there was a packet.
	Peer netip.AddrPort `json:"peer,omitzero"`
	// Tracked are the connection tracking entries that came to be, in the order of the namespaces.
	Tracked []trace.Tracked `json:"tracked"`
	// FinalDestination and FinalSource are the packet's ends after the last translation that was seen; SeenBy says by what:
	// conntrack, trace or drop. All are absent when nothing was seen.
	FinalDestination netip.AddrPort `json:"finalDestination,omitzero"`
	FinalSource      netip.AddrPort `json:"finalSource,omitzero"`
	SeenBy           string         `json:"seenBy,omitempty"`
	// Events are the rules and policies that the connection's first packet met, by the kernel's own trace.
	Events []ProbeEvent `json:"events"`
	// Drops are the packets of the connection that the kernel threw away, with its reason.
	Drops []ProbeDrop `json:"drops"`
}

// ProbeEvent is one nftables trace event.
type ProbeEvent struct {
	Namespace string `json:"namespace"`
	// Table is the table with its family, as in a hop: "ip kube-proxy".
	Table string `json:"table"`
	Chain string `json:"chain"`
	// Handle is the rule's, 0 for a policy and for the end of a chain.
	Handle uint64 `json:"handle,omitempty"`
	// Type is rule, policy or return.
	Type string `json:"type"`
	// Verdict is accept, drop, continue, return, "jump CHAIN", "goto CHAIN" …
	Verdict string `json:"verdict"`
}

// ProbeDrop is a packet of the connection that the kernel freed as dropped (tracepoint skb:kfree_skb).
type ProbeDrop struct {
	// Namespace is where; empty when the packet had no interface yet.
	Namespace string `json:"namespace,omitempty"`
	// Reason is the kernel's, without its prefix: NETFILTER_DROP, NO_SOCKET, IP_RPFILTER …
	Reason string `json:"reason"`
	// Source and Destination are the packet's at that moment.
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	// Count is how many such packets were dropped: a client sends again what nobody answers.
	Count int `json:"count"`
}

// ProbeCounter is a rule whose counter moved while the connections were opened.
type ProbeCounter struct {
	ProbeRule
	// Packets and Bytes are the difference.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}
