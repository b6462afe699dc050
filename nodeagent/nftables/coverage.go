package nftables

import "slices"

// Modelled says how far an expression is evaluated.
type Modelled string

// The degrees.
const (
	// Exactly: as the kernel does, from the state that was read.
	Exactly Modelled = "yes"
	// DependsOn: the state does not settle it; the walk forks on a condition.
	DependsOn Modelled = "depends"
	// NotModelled: the walk forks and says that it does not know.
	NotModelled Modelled = "unknown"
)

// Expression is an nftables expression of the kernel, and how far it is modelled.
type Expression struct {
	Name     string
	Modelled Modelled
	Note     string
}

// Expressions lists the kernel's expressions by name.
func Expressions() []Expression {
	out := []Expression{
		{"bitwise", Exactly, ""},
		{"byteorder", Exactly, ""},
		{"cmp", Exactly, "bit by bit where bytes are unknown"},
		{"connlimit", DependsOn, "the number of connections is not counted"},
		{"counter", Exactly, "no effect on the packet"},
		{"ct", Exactly, "helper, timeout and expectation as far as the entry tells; expiration and averages: depends"},
		{"dup", Exactly, "the copy is not followed"},
		{"dynset", Exactly, "depends where the set is nearly full; what a packet itself adds is seen by its later rules"},
		{"exthdr", Exactly, "options and extension headers that are not described: depends"},
		{"fib", Exactly, ""},
		{"flow_offload", DependsOn, "whether the flow is in the flow table"},
		{"fwd", Exactly, "to a device; with a neighbour's address the packet is taken out of the path"},
		{"hash", Exactly, "jhash with a seed; symhash and jhash without one fork over the values"},
		{"immediate", Exactly, ""},
		{"inner", DependsOn, "headers inside a tunnel are not described"},
		{"last", Exactly, "no effect on the packet"},
		{"limit", DependsOn, "the rate"},
		{"log", Exactly, "no effect on the packet"},
		{"lookup", Exactly, "hash, interval, ranged concatenation, catch-all; expired elements do not match"},
		{"masq", Exactly, "with fully-random or a clash the port is the kernel's choice"},
		{"match", Exactly, "see the extensions of iptables"},
		{"meta", Exactly, "the clock, the processor and the cgroup: depends"},
		{"nat", Exactly, "unknown with a shifted port range"},
		{"notrack", Exactly, ""},
		{"numgen", Exactly, "random is uniform; inc depends on a counter that all packets share"},
		{"objref", Exactly, "counter, quota and ct objects; limit and connlimit: depends; tunnel: unknown"},
		{"osf", DependsOn, "TCP options are not described"},
		{"payload", Exactly, "bytes that are not described: depends"},
		{"queue", Exactly, "what the program does is unknown"},
		{"quota", Exactly, "depends at its edge"},
		{"range", Exactly, ""},
		{"redir", Exactly, ""},
		{"reject", Exactly, ""},
		{"rt", Exactly, "next hop and class; the MTU: depends"},
		{"secmark", Exactly, "no effect on the packet's way"},
		{"socket", DependsOn, "transparency and cgroup of the socket"},
		{"synproxy", DependsOn, "the handshake"},
		{"target", Exactly, "see the extensions of iptables"},
		{"tproxy", DependsOn, "whether a socket takes it"},
		{"tunnel", DependsOn, "tunnel metadata is not described"},
		{"xfrm", DependsOn, "IPsec state is not read"},
	}
	slices.SortFunc(out, func(a, b Expression) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}
