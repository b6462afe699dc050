package rule

// Code says how a rule leaves the packet.
type Code uint8

// The codes of a Result.
const (
	// Continue: the next rule is asked (no match, or a rule without verdict).
	Continue Code = iota
	// Accept ends the base chain.
	Accept
	// Drop discards the packet.
	Drop
	// Reject discards it and answers (Result.With).
	Reject
	// Jump goes to Result.Chain and comes back.
	Jump
	// Goto goes to Result.Chain and does not come back here.
	Goto
	// Return goes back to the calling chain, or to the base chain's policy.
	Return
	// Queue hands the packet to a program in user space.
	Queue
	// Stolen: the packet is taken out of the path (synproxy, tproxy to a socket, fwd to another device).
	Stolen
)

// Result is what one rule did with a packet.
type Result struct {
	Code Code
	// Chain is the target of Jump and Goto.
	Chain string
	// With is the answer of Reject: icmp-port-unreachable, tcp-reset, icmpv6-adm-prohibited …
	With string
	// Out is the interface that a Stolen packet is sent out by (fwd), empty when it is taken otherwise.
	Out string
	// Matched is true when the rule's conditions held to its end, so that its statements took effect.
	Matched bool
	// Action says what the rule did, in the words of its tool: "jump KUBE-SVC-…", "dnat to 10.0.0.1:80", "mark set 0x4000".
	// Empty when the rule matched without any effect on the packet.
	Action string
	// Says explains why it matched, where the rule's text alone does not: "10.96.0.25 . tcp . 80 is in service-ips".
	Says string
}
