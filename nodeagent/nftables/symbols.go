package nftables

import (
	"encoding/binary"
	"fmt"
	"time"
)

// The data types with their symbols (nftables, src/datatype.c, src/proto.c, src/meta.c, src/ct.c, src/fib.c).
var (
	typeInvalid     = &dataType{name: "invalid"}
	typeInteger     = &dataType{name: "integer"}
	typeHostInteger = &dataType{name: "integer", host: true}
	typeRaw         = &dataType{name: "integer", hex: -1}
	typeBitmask     = &dataType{name: "bitmask", hex: -1}
	typeString      = &dataType{name: "string", show: quoted}
	typeIPv4        = &dataType{name: "ipv4_addr", size: 4, show: ipText}
	typeIPv6        = &dataType{name: "ipv6_addr", size: 16, show: ipText}
	typeEther       = &dataType{name: "ether_addr", size: 6, show: etherText}
	typePort        = &dataType{name: "inet_service", size: 2}
	typeMark        = &dataType{name: "mark", size: 4, host: true, hex: 8}
	typeIfindex     = &dataType{name: "iface_index", size: 4, host: true}
	typeIfname      = &dataType{name: "ifname", size: 16, show: ifnameText}
	typeClassID     = &dataType{name: "classid", size: 4, host: true, show: classText}
	typeUID         = &dataType{name: "uid", size: 4, host: true}
	typeGID         = &dataType{name: "gid", size: 4, host: true}
	typeRealm       = &dataType{name: "realm", size: 4, host: true, symbols: names{0: `"cosmos"`}}
	typeDevgroup    = &dataType{name: "devgroup", size: 4, host: true, symbols: names{0: `"default"`}}
	typeHour        = &dataType{name: "hour", size: 4, host: true, show: hourText}
	typeMillis      = &dataType{name: "time", size: 4, host: true, show: func(b []byte) string { return millisText(typeHostInteger.number(b).Uint64()) }}
	typeTime        = &dataType{name: "time", size: 8, host: true, show: timeText}
	typeCtLabel     = &dataType{name: "ct_label", size: 16, host: true, show: ctLabelText}

	typeBoolean  = &dataType{name: "boolean", size: 1, show: booleanText}
	typeNfproto  = &dataType{name: "nf_proto", size: 1, symbols: names{2: "ipv4", 10: "ipv6"}}
	typePktType  = &dataType{name: "pkt_type", size: 1, symbols: names{0: "host", 1: "broadcast", 2: "multicast", 3: "other"}}
	typeCtDir    = &dataType{name: "ct_dir", size: 1, symbols: names{0: "original", 1: "reply"}}
	typeFibAddr  = &dataType{name: "fib_addrtype", size: 4, host: true, symbols: fibTypes}
	typeDay      = &dataType{name: "day", size: 1, symbols: names{0: `"Sunday"`, 1: `"Monday"`, 2: `"Tuesday"`, 3: `"Wednesday"`, 4: `"Thursday"`, 5: `"Friday"`, 6: `"Saturday"`}}
	typeECN      = &dataType{name: "ecn", symbols: names{0: "not-ect", 1: "ect1", 2: "ect0", 3: "ce"}}
	typeARPHRD   = &dataType{name: "iface_type", size: 2, host: true, symbols: names{1: "ether", 512: "ppp", 768: "ipip", 769: "ipip6", 772: "loopback", 776: "sit", 778: "ipgre"}}
	typeARPOp    = &dataType{name: "arp_op", size: 2, symbols: names{1: "request", 2: "reply", 3: "rrequest", 4: "rreply", 8: "inrequest", 9: "inreply", 10: "nak"}}
	typeDCCP     = &dataType{name: "dccp_pkttype", symbols: names{0: "request", 1: "response", 2: "data", 3: "ack", 4: "dataack", 5: "closereq", 6: "close", 7: "reset", 8: "sync", 9: "syncack"}}
	typeDSCP     = &dataType{name: "dscp", hex: 2, symbols: dscpNames}
	typeProto    = &dataType{name: "inet_proto", size: 1, symbols: protoNames}
	typeICMP     = &dataType{name: "icmp_type", size: 1, symbols: icmpTypes}
	typeICMPCode = &dataType{name: "icmp_code", size: 1, symbols: names{
		0: "net-unreachable", 1: "host-unreachable", 2: "prot-unreachable", 3: "port-unreachable", 4: "frag-needed",
		9: "net-prohibited", 10: "host-prohibited", 13: "admin-prohibited",
	}}
	typeICMPv6     = &dataType{name: "icmpv6_type", size: 1, symbols: icmpv6Types}
	typeICMPv6Code = &dataType{name: "icmpv6_code", size: 1, symbols: names{
		0: "no-route", 1: "admin-prohibited", 3: "addr-unreachable", 4: "port-unreachable", 5: "policy-fail", 6: "reject-route",
	}}
	typeICMPXCode = &dataType{name: "icmpx_code", size: 1, symbols: names{
		0: "no-route", 1: "port-unreachable", 2: "host-unreachable", 3: "admin-prohibited",
	}}
	typeEtherType = &dataType{name: "ether_type", size: 2, show: etherTypeText}

	typeTCPFlag = &dataType{name: "tcp_flag", size: 1, flags: []flag{
		{1, "fin"}, {2, "syn"}, {4, "rst"}, {8, "psh"}, {16, "ack"}, {32, "urg"}, {64, "ecn"}, {128, "cwr"},
	}}
	typeCtState = &dataType{name: "ct_state", size: 4, host: true, flags: []flag{
		{stateInvalid, "invalid"}, {stateEstablished, "established"}, {stateRelated, "related"}, {stateNew, "new"}, {stateUntracked, "untracked"},
	}}
	typeCtStatus = &dataType{name: "ct_status", size: 4, host: true, flags: []flag{
		{1, "expected"}, {2, "seen-reply"}, {4, "assured"}, {8, "confirmed"}, {16, "snat"}, {32, "dnat"}, {512, "dying"},
	}}
	typeCtEvent = &dataType{name: "ct_event", size: 4, host: true, flags: []flag{
		{1, "new"}, {2, "related"}, {4, "destroy"}, {8, "reply"}, {16, "assured"}, {32, "protoinfo"}, {64, "helper"}, {128, "mark"},
		{256, "seqadj"}, {512, "secmark"}, {1024, "label"},
	}}
)

var fibTypes = names{
	0: "unspec", 1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit",
}

var dscpNames = names{
	0x00: "cs0", 0x08: "cs1", 0x10: "cs2", 0x18: "cs3", 0x20: "cs4", 0x28: "cs5", 0x30: "cs6", 0x38: "cs7", 0x01: "lephb",
	0x0a: "af11", 0x0c: "af12", 0x0e: "af13", 0x12: "af21", 0x14: "af22", 0x16: "af23", 0x1a: "af31", 0x1c: "af32", 0x1e: "af33",
	0x22: "af41", 0x24: "af42", 0x26: "af43", 0x2c: "va", 0x2e: "ef",
}

// protoNames are the names of the usual protocols file.
var protoNames = names{
	0: "ip", 1: "icmp", 2: "igmp", 3: "ggp", 4: "ipencap", 5: "st", 6: "tcp", 8: "egp", 9: "igp", 12: "pup", 17: "udp", 20: "hmp",
	22: "xns-idp", 27: "rdp", 29: "iso-tp4", 33: "dccp", 36: "xtp", 37: "ddp", 38: "idpr-cmtp", 41: "ipv6", 43: "ipv6-route",
	44: "ipv6-frag", 45: "idrp", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah", 57: "skip", 58: "ipv6-icmp", 59: "ipv6-nonxt",
	60: "ipv6-opts", 73: "rspf", 81: "vmtp", 88: "eigrp", 89: "ospf", 93: "ax.25", 94: "ipip", 97: "etherip", 98: "encap", 103: "pim",
	108: "ipcomp", 112: "vrrp", 115: "l2tp", 124: "isis", 132: "sctp", 133: "fc", 135: "mobility-header", 136: "udplite",
	137: "mpls-in-ip", 138: "manet", 139: "hip", 140: "shim6", 141: "wesp", 142: "rohc", 143: "ethernet", 262: "mptcp",
}

var icmpTypes = names{
	0: "echo-reply", 3: "destination-unreachable", 4: "source-quench", 5: "redirect", 8: "echo-request", 9: "router-advertisement",
	10: "router-solicitation", 11: "time-exceeded", 12: "parameter-problem", 13: "timestamp-request", 14: "timestamp-reply",
	15: "info-request", 16: "info-reply", 17: "address-mask-request", 18: "address-mask-reply",
}

var icmpv6Types = names{
	1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem", 128: "echo-request",
	129: "echo-reply", 130: "mld-listener-query", 131: "mld-listener-report", 132: "mld-listener-done", 133: "nd-router-solicit",
	134: "nd-router-advert", 135: "nd-neighbor-solicit", 136: "nd-neighbor-advert", 137: "nd-redirect", 138: "router-renumbering",
	141: "ind-neighbor-solicit", 142: "ind-neighbor-advert", 143: "mld2-listener-report",
}

// etherTypeText prints an Ethernet protocol.
func etherTypeText(b []byte) string {
	n := typeInteger.number(b)
	if !n.IsUint64() {
		return fmt.Sprintf("0x%04x", n)
	}
	switch n.Uint64() {
	case 0x0800:
		return "ip"
	case 0x0806:
		return "arp"
	case 0x86dd:
		return "ip6"
	case 0x8100:
		return "vlan"
	case 0x88a8:
		return "8021ad"
	case 0x88cc:
		return "lldp"
	default:
		return fmt.Sprintf("0x%04x", n)
	}
}

// timeText prints a time as nft does, in UTC.
func timeText(b []byte) string {
	if len(b) < 8 {
		return fmt.Sprintf("0x%x", b)
	}
	return time.Unix(0, int64(binary.NativeEndian.Uint64(b))).UTC().Format(`"2006-01-02 15:04:05"`)
}

// ctLabelText prints the bits of a connection label.
func ctLabelText(b []byte) string {
	s := ""
	for i := range len(b) * 8 {
		if b[i/8]&(1<<(i%8)) != 0 {
			if s != "" {
				s += ","
			}
			s += fmt.Sprint(i)
		}
	}
	if s == "" {
		return "0x0"
	}
	return s
}

var typeMH = &dataType{name: "mh_type", size: 1, symbols: names{
	0: "binding-refresh-request", 1: "home-test-init", 2: "careof-test-init", 3: "home-test", 4: "careof-test", 5: "binding-update",
	6: "binding-acknowledgement", 7: "binding-error", 8: "fast-binding-update", 9: "fast-binding-acknowledgement",
	10: "fast-binding-advertisement", 11: "experimental-mobility-header", 12: "home-agent-switch-message",
}}

var typeIGMP = &dataType{name: "igmp_type", size: 1, symbols: names{
	0x11: "membership-query", 0x12: "membership-report-v1", 0x16: "membership-report-v2", 0x17: "leave-group", 0x22: "membership-report-v3",
}}

// booleanText prints whether something is there: the kernel stores a byte or a number in host order.
func booleanText(b []byte) string {
	if allZero(b) {
		return "missing"
	}
	return "exists"
}
