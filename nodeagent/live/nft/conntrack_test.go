//go:build linux

package nft_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
)

// TestUsesConntrack holds what the rules say about connection tracking against whether the kernel tracks an IPv4 packet.
func TestUsesConntrack(t *testing.T) {
	for _, tt := range []struct{ name, rules string }{
		{"no rules", ""},
		{"notrack", "table ip t { chain c { type filter hook prerouting priority -300; notrack; }; }"},
		{"an empty nat chain", "table ip t { chain c { type nat hook prerouting priority -100; }; }"},
		{"tproxy", "table ip t { chain c { type filter hook prerouting priority -150; tcp dport 80 tproxy to :80; }; }"},
		{"socket", "table ip t { chain c { type filter hook prerouting priority -150; socket transparent 1 accept; }; }"},
		{"fib", "table ip t { chain c { fib daddr type local; }; }"},
		{"numgen", "table ip t { chain c { numgen random mod 2 0; }; }"},
		{"synproxy", "table ip t { chain c { type filter hook input priority 0; tcp dport 80 synproxy; }; }"},
		{"ct state in a chain that nothing calls", "table ip t { chain c { ct state new; }; }"},
		{"ct state for IPv6", "table ip6 t { chain c { ct state new; }; }"},
		{"ct state in inet", "table inet t { chain c { ct state new; }; }"},
		{"translation of IPv6 in inet", "table inet t { chain c { type nat hook postrouting priority 100; ip6 daddr ::1 snat ip6 to fd00::1; }; }"},
		{"masquerade in inet", "table inet t { chain c { type nat hook postrouting priority 100; ip6 daddr ::1 masquerade; }; }"},
		{"redirect", "table ip t { chain c { type nat hook prerouting priority -100; redirect; }; }"},
		{"connlimit in an element", "table ip t { set s { type ipv4_addr; flags dynamic; }; chain c { add @s { ip saddr ct count 5 }; }; }"},
		{"limit in an element", "table ip t { set s { type ipv4_addr; flags dynamic; }; chain c { add @s { ip saddr limit rate 1/second }; }; }"},
		{"a helper that no rule assigns", "table ip t { ct helper f { type \"ftp\" protocol tcp; }; }"},
		{"a timeout policy that no rule assigns", "table ip t { ct timeout f { protocol tcp; policy = { established : 120 }; }; }"},
		{"an expectation that no rule makes", "table ip t { ct expectation f { protocol tcp; dport 5; timeout 1h; size 5; }; }"},
		{"objects that have nothing to do with it", "table ip t { counter c { }; quota q { 5 bytes }; limit l { rate 1/second }; }"},
		{"a helper that a rule assigns", "table ip t { ct helper f { type \"ftp\" protocol tcp; }; chain c { ct helper set \"f\"; }; }"},
	} {
		ctx := newNamespace(t)
		load(t, tt.rules)
		e := newEnv(t)
		uses := false
		for _, c := range chains(t, e) {
			for _, r := range rules(t, ctx, e, c.Family, c.Table, c.Name) {
				ipv4, _ := r.ConntrackFamilies()
				uses = uses || r.UsesConntrack() && ipv4
			}
		}
		objects, err := e.NFTObjects(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range objects {
			o, err := nftables.DecodeObject(b.Attrs)
			if err != nil {
				t.Fatal(err)
			}
			uses = uses || o.UsesConntrack()
		}
		packets[0].send(t)
		text := strings.TrimSpace(run(t, "", "cat", "/proc/sys/net/netfilter/nf_conntrack_count"))
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if (n > 0) != uses {
			t.Errorf("%s: the kernel tracks %d connections, the rules use connection tracking: %v", tt.name, n, uses)
		}
	}
}
