//go:build linux

package oracle

// notLoadable are modelled constructs that the kernel or the tools at hand do not take: a step that must fail.
var notLoadable = map[string]Step{
	"match ipvs":       {"iptables-legacy", "*filter\n-A FORWARD -m ipvs --ipvs -j DROP\nCOMMIT\n"},
	"match udplite":    {"iptables-legacy", "*filter\n-A FORWARD -p udplite -m udplite --dport 1 -j DROP\nCOMMIT\n"},
	"target CLUSTERIP": {"iptables-legacy", "*filter\n-A INPUT -d 192.0.2.1 -i ext -j CLUSTERIP --new --hashmode sourceip --clustermac 01:00:5E:00:00:20 --total-nodes 2 --local-node 1\nCOMMIT\n"},
	"target LED":       {"iptables-legacy", "*filter\n-A FORWARD -j LED --led-trigger-id x\nCOMMIT\n"},
	"target SECMARK":   {"iptables-legacy", "*mangle\n-A FORWARD -j SECMARK --selctx system_u:object_r:x_t:s0\nCOMMIT\n"},
	"target ULOG":      {"iptables-legacy", "*filter\n-A FORWARD -j ULOG\nCOMMIT\n"},
	"nft flow_offload": {"nft", "add table ip t\nadd flowtable ip t ft { hook ingress priority 0; devices = { ext }; }\n"},
	"nft inner":        {"nft", "add table ip t\nadd chain ip t c\nadd rule ip t c udp dport 4789 vxlan ip saddr 192.0.2.1 drop\n"},
	"nft last":         {"nft", "add table ip t\nadd chain ip t c\nadd rule ip t c last\n"},
	"nft queue":        {"nft", "add table ip t\nadd chain ip t c\nadd rule ip t c queue num 1\n"},
	"nft secmark":      {"nft", "add table ip t\nadd secmark ip t s { \"system_u:object_r:x_t:s0\" }\n"},
	"nft tunnel":       {"nft", "add table ip t\nadd chain ip t c\nadd rule ip t c tunnel id 1\n"},
}

// notDecisive are modelled constructs that load and yet cannot decide a fate here, and why.
var notDecisive = map[string]string{
	"match osf":       "never matches without fingerprints, and those are the whole machine's, not a namespace's",
	"nft synproxy":    "the kernel answers in the server's stead: the engine says that it takes the packet out of its path",
	"target SYNPROXY": "the same",
	"nft xfrm":        "the kernel has no IPsec transform, so no packet has a state that it could match",
}
