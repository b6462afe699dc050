package nftables

import "github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"

// header is a protocol header with its fields, in nft's names.
type header struct {
	name string
	base uint32
	// proto is the transport protocol of a transport header, family the address family of a network header; 0 for any.
	proto  uint8
	family skb.Family
	fields []field
}

// field is a field of a header: its place in bits, and its data type.
type field struct {
	name        string
	offset, len uint32
	typ         *dataType
}

// is reports whether the field is the given bits.
func (f *field) is(offset, n uint32) bool { return f.offset == offset && f.len == n }

// headers are the headers that nft names in payload expressions (nftables, src/proto.c).
var headers = []*header{
	{"ether", baseLink, 0, 0, []field{{"daddr", 0, 48, typeEther}, {"saddr", 48, 48, typeEther}, {"type", 96, 16, typeEtherType}}},
	{"ip", baseNetwork, 0, skb.IPv4, []field{
		{"version", 0, 4, typeInteger}, {"hdrlength", 4, 4, typeInteger}, {"dscp", 8, 6, typeDSCP}, {"ecn", 14, 2, typeECN},
		{"length", 16, 16, typeInteger}, {"id", 32, 16, typeInteger}, {"frag-off", 48, 16, typeInteger}, {"ttl", 64, 8, typeInteger},
		{"protocol", 72, 8, typeProto}, {"checksum", 80, 16, typeInteger}, {"saddr", 96, 32, typeIPv4}, {"daddr", 128, 32, typeIPv4},
	}},
	{"ip6", baseNetwork, 0, skb.IPv6, []field{
		{"version", 0, 4, typeInteger}, {"dscp", 4, 6, typeDSCP}, {"ecn", 10, 2, typeECN}, {"flowlabel", 12, 20, typeInteger},
		{"length", 32, 16, typeInteger}, {"nexthdr", 48, 8, typeProto}, {"hoplimit", 56, 8, typeInteger},
		{"saddr", 64, 128, typeIPv6}, {"daddr", 192, 128, typeIPv6},
	}},
	{"tcp", baseTransport, skb.TCP, 0, []field{
		{"sport", 0, 16, typePort}, {"dport", 16, 16, typePort}, {"sequence", 32, 32, typeInteger}, {"ackseq", 64, 32, typeInteger},
		{"doff", 96, 4, typeInteger}, {"reserved", 100, 4, typeInteger}, {"flags", 104, 8, typeTCPFlag},
		{"window", 112, 16, typeInteger}, {"checksum", 128, 16, typeInteger}, {"urgptr", 144, 16, typeInteger},
	}},
	{"udp", baseTransport, skb.UDP, 0, []field{
		{"sport", 0, 16, typePort}, {"dport", 16, 16, typePort}, {"length", 32, 16, typeInteger}, {"checksum", 48, 16, typeInteger},
	}},
	{"udplite", baseTransport, skb.UDPLite, 0, []field{
		{"sport", 0, 16, typePort}, {"dport", 16, 16, typePort}, {"csumcov", 32, 16, typeInteger}, {"checksum", 48, 16, typeInteger},
	}},
	{"sctp", baseTransport, skb.SCTP, 0, []field{
		{"sport", 0, 16, typePort}, {"dport", 16, 16, typePort}, {"vtag", 32, 32, typeInteger}, {"checksum", 64, 32, typeInteger},
	}},
	{"dccp", baseTransport, skb.DCCP, 0, []field{{"sport", 0, 16, typePort}, {"dport", 16, 16, typePort}, {"type", 67, 4, typeDCCP}}},
	{"icmp", baseTransport, skb.ICMP, 0, []field{
		{"type", 0, 8, typeICMP}, {"code", 8, 8, typeICMPCode}, {"checksum", 16, 16, typeInteger}, {"id", 32, 16, typeInteger},
		{"sequence", 48, 16, typeInteger}, {"gateway", 32, 32, typeInteger}, {"mtu", 48, 16, typeInteger},
	}},
	{"icmpv6", baseTransport, skb.ICMPv6, 0, []field{
		{"type", 0, 8, typeICMPv6}, {"code", 8, 8, typeICMPv6Code}, {"checksum", 16, 16, typeInteger}, {"id", 32, 16, typeInteger},
		{"sequence", 48, 16, typeInteger}, {"mtu", 32, 32, typeInteger}, {"max-delay", 32, 16, typeInteger}, {"parameter-problem", 32, 32, typeInteger},
	}},
	{"esp", baseTransport, skb.ESP, 0, []field{{"spi", 0, 32, typeInteger}, {"sequence", 32, 32, typeInteger}}},
	{"ah", baseTransport, skb.AH, 0, []field{
		{"nexthdr", 0, 8, typeProto}, {"hdrlength", 8, 8, typeInteger}, {"reserved", 16, 16, typeInteger}, {"spi", 32, 32, typeInteger}, {"sequence", 64, 32, typeInteger},
	}},
	{"comp", baseTransport, 108, 0, []field{{"nexthdr", 0, 8, typeProto}, {"flags", 8, 8, typeBitmask}, {"cpi", 16, 16, typeInteger}}},
	{"igmp", baseTransport, 2, 0, []field{{"type", 0, 8, typeIGMP}, {"mrt", 8, 8, typeInteger}, {"checksum", 16, 16, typeInteger}, {"group", 32, 32, typeIPv4}}},
	{"th", baseTransport, 0, 0, []field{{"sport", 0, 16, typePort}, {"dport", 16, 16, typePort}}},
	{"arp", baseNetwork, 0, 3, []field{
		{"htype", 0, 16, typeInteger}, {"ptype", 16, 16, typeEtherType}, {"hlen", 32, 8, typeInteger}, {"plen", 40, 8, typeInteger},
		{"operation", 48, 16, typeInteger}, {"saddr ether", 64, 48, typeEther}, {"saddr ip", 112, 32, typeIPv4},
		{"daddr ether", 144, 48, typeEther}, {"daddr ip", 192, 32, typeIPv4},
	}},
}

// findField returns the header and field that lie at given bits; both are nil when none does. proto 0 is any transport
// protocol: then only th matches.
func findField(base, offset, n uint32, proto uint8, f skb.Family) (*header, *field) {
	for _, h := range headers {
		if h.base != base || h.proto != 0 && h.proto != proto || h.family != 0 && h.family != f || h.name == "th" && hasHeader(proto) {
			continue
		}
		for i := range h.fields {
			if h.fields[i].is(offset, n) {
				return h, &h.fields[i]
			}
		}
	}
	return nil, nil
}

// hasHeader reports whether a transport protocol has a header of its own here.
func hasHeader(proto uint8) bool {
	for _, h := range headers {
		if proto != 0 && h.proto == proto {
			return true
		}
	}
	return false
}
