//go:build linux

package nft_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// TestMissesAgreesWithEvaluation holds the short cut against the evaluation of the same rules. The chain is long enough
// that its messages share pieces of memory.
func TestMissesAgreesWithEvaluation(t *testing.T) {
	ctx := newNamespace(t)
	var rules strings.Builder
	rules.WriteString("*filter\n:X - [0:0]\n")
	for _, m := range []string{
		"-d 10.0.0.2/32", "-d 10.0.0.3/32", "! -d 10.0.0.2/32", "! -d 10.0.0.3/32", "-d 10.0.0.0/24", "-d 10.0.1.0/24", "-d 10.0.0.0/30",
		"-s 10.0.0.1/32", "-s 10.0.0.9/32", "-s 10.0.0.1/32 -d 10.0.0.3/32", "-p tcp", "-p udp", "! -p tcp", "! -p udp", "-d 10.0.0.2/32 -p udp",
		"-d 10.0.0.2/32 -p tcp -m tcp --dport 80", "-p tcp -m tcp --dport 81", "-i veth1", "-i eth+", "-d 10.0.0.3/32 -m comment --comment x", "",
	} {
		fmt.Fprintf(&rules, "-A X %s -j ACCEPT\n", m)
	}
	for i := range 500 {
		fmt.Fprintf(&rules, "-A X -d 10.9.%d.%d/32 -p tcp -m comment --comment \"number %d\" -j ACCEPT\n", i>>8, i&255, i)
	}
	rules.WriteString("COMMIT\n")
	run(t, rules.String(), "iptables-nft-restore")
	load(t, "table inet other { chain X { ip6 daddr fd00::1 accept; ip daddr 10.0.0.2 accept; ip daddr 10.0.0.3 accept; ip daddr { 10.0.0.3 } accept; ip ttl 5 accept; meta mark 1 ip daddr 10.0.0.3 accept; tcp dport 80 accept; }; }")
	e := newEnv(t)
	ev := &nftables.Evaluator{Env: e, Compat: extensions{&xtables.Evaluator{}}}
	misses := 0
	for _, table := range []string{"filter", "other"} {
		family := map[string]node.NFTFamily{"filter": node.NFTIPv4, "other": node.NFTInet}[table]
		list, err := e.NFTRules(ctx, family, table, "X")
		if err != nil {
			t.Fatal(err)
		}
		p := newPacket(t, skb.TCP, "10.0.0.1:1", "10.0.0.2:80")
		p.In = "veth1"
		var left, want [][]byte
		some, err := e.NFTRulesFor(ctx, family, table, "X", func(rule []byte) bool {
			if !slices.ContainsFunc(list, func(l []byte) bool { return bytes.Equal(l, rule) }) {
				t.Errorf("a rule that may be skipped is none of table %s", table)
			}
			return nftables.Misses(family, rule, p)
		})
		if err != nil {
			t.Fatal(err)
		}
		left = some.Rules
		if some.Numbers != nil { // else all are there
			left = nil
			for i, n := range some.Numbers {
				if !bytes.Equal(list[n], some.Rules[i]) {
					t.Errorf("rule %d of table %s has another's number", n, table)
				}
				if !nftables.Misses(family, some.Rules[i], p) {
					left = append(left, some.Rules[i])
				}
			}
			for _, raw := range list {
				if !nftables.Misses(family, raw, p) {
					want = append(want, raw)
				}
			}
		} else {
			want = list
		}
		if !slices.EqualFunc(left, want, bytes.Equal) {
			t.Errorf("%d rules of table %s are left, want %d", len(left), table, len(want))
		}
		for i, raw := range list {
			p := newPacket(t, skb.TCP, "10.0.0.1:1", "10.0.0.2:80")
			p.In = "veth1"
			if !nftables.Misses(family, raw, p) {
				continue
			}
			misses++
			r, err := nftables.DecodeRule(family, table, "X", raw)
			if err != nil {
				t.Fatal(err)
			}
			branches, err := rule.Enumerate(10, func(ch *rule.Chooser) (rule.Result, error) { return ev.Eval(ctx, r, p, ch) })
			if err != nil {
				t.Fatal(err)
			}
			if len(branches) != 1 || branches[0].Value.Matched || branches[0].Value.Code != rule.Continue {
				t.Errorf("rule %d of table %s is said to miss, but evaluates to %+v", i, table, branches)
			}
		}
	}
	// The rules that cannot match by address or protocol alone, where these stand first.
	if want := 500 + 8; misses < want {
		t.Errorf("%d rules miss, want %d or more", misses, want)
	}
}
