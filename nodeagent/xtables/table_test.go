//go:build linux

package xtables_test

import (
	"context"
	"encoding/binary"
	"math/big"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt/xtlab"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// step is one rule of a path through a table.
type step struct {
	Chain  string
	Number int
	Code   rule.Code
	Action string
}

// walkTable follows a packet through one hook of a table whose rules do not fork.
func walkTable(t *testing.T, e *xtables.Evaluator, tab *xtables.Table, p *skb.Packet) []step {
	t.Helper()
	var out []step
	off, ok := tab.Hook(p.Hook)
	if !ok {
		t.Fatalf("no chain at %s", p.Hook)
	}
	var stack []xtables.Rule
	r, err := tab.First(off)
	for range 100 {
		if err != nil {
			t.Fatal(err)
		}
		branches, e2 := rule.Enumerate(2, func(ch *rule.Chooser) (xtables.LegacyResult, error) {
			return e.EvalRule(context.Background(), tab, r, p, ch)
		})
		if e2 != nil || len(branches) != 1 {
			t.Fatalf("%s: %d branches, %v", tab.RuleText(r), len(branches), e2)
		}
		res := branches[0].Value
		if res.Matched {
			out = append(out, step{r.Chain, r.Number, res.Code, res.Action})
		}
		switch res.Code {
		case rule.Accept, rule.Drop, rule.Reject, rule.Queue, rule.Stolen:
			return out
		case rule.Jump:
			stack = append(stack, r)
			r, err = tab.First(res.Target)
			continue
		case rule.Goto:
			r, err = tab.First(res.Target)
			continue
		case rule.Return:
			if len(stack) == 0 {
				policy, _ := tab.Policy(p.Hook)
				r, err = tab.Rule(policy)
				r.Chain = "policy"
				continue
			}
			r = stack[len(stack)-1]
			stack = stack[:len(stack)-1]
		}
		r, err = tab.Next(r)
	}
	t.Fatal("the walk does not end")
	return nil
}

func newPacket(t *testing.T, proto uint8, src, dst string) *skb.Packet {
	t.Helper()
	p, err := skb.New(proto, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
	if err != nil {
		t.Fatal(err)
	}
	p.Hook = skb.Input
	return p
}

func TestWalkFollowsJumpsGotosAndReturns(t *testing.T) {
	l := xtlab.New(t)
	for _, f := range []skb.Family{skb.IPv4, skb.IPv6} {
		l.Restore(f, "filter",
			":INPUT DROP [0:0]", ":A - [0:0]", ":B - [0:0]", ":C - [0:0]", ":EMPTY - [0:0]",
			"-A INPUT -m comment --comment nothing",
			"-A INPUT -j EMPTY",
			"-A INPUT -p tcp -m tcp --dport 80 -j A",
			"-A INPUT -p tcp -m tcp --dport 81 -j ACCEPT",
			"-A INPUT -p tcp -m tcp --dport 82 -j REJECT --reject-with tcp-reset",
			"-A INPUT -p tcp -m tcp --dport 83 -j RETURN",
			"-A INPUT -p udp -j ACCEPT",
			"-A A -g B",
			"-A A -j ACCEPT",
			"-A B -j C",
			"-A B -m mark --mark 0x7",
			"-A C -j RETURN",
			"-A C -j ACCEPT",
		)
		tab := l.Table(f, "filter")
		e := &xtables.Evaluator{}
		src, dst := "10.0.0.1:40000", "10.0.0.2:"
		if f == skb.IPv6 {
			src, dst = "[fd00::1]:40000", "[fd00::2]:"
		}
		start := []step{{"INPUT", 1, rule.Continue, ""}, {"INPUT", 2, rule.Jump, "jump EMPTY"}, {"EMPTY", 1, rule.Return, "return"}}
		for port, want := range map[string][]step{
			"80": {{"INPUT", 3, rule.Jump, "jump A"}, {"A", 1, rule.Goto, "goto B"}, {"B", 1, rule.Jump, "jump C"}, {"C", 1, rule.Return, "return"},
				{"B", 3, rule.Return, "return"}, {"INPUT", 8, rule.Drop, "drop"}},
			"81": {{"INPUT", 4, rule.Accept, "accept"}},
			"82": {{"INPUT", 5, rule.Reject, "reject with tcp-reset"}},
			"83": {{"INPUT", 6, rule.Return, "return"}, {"policy", 0, rule.Drop, "drop"}},
		} {
			got := walkTable(t, e, tab, newPacket(t, skb.TCP, src, dst+port))
			if diff := cmp.Diff(append(append([]step{}, start...), want...), got); diff != "" {
				t.Errorf("%s port %s (-want +got)\n%s", f, port, diff)
			}
		}
	}
}

func TestRulesKnowTheirPlaceAndCounters(t *testing.T) {
	l := xtlab.New(t)
	l.Restore(skb.IPv4, "filter", ":INPUT ACCEPT [5:6]", ":A - [0:0]", "[7:8] -A INPUT -p udp -j A", "[9:10] -A A -j DROP", "-A A -j ACCEPT")
	tab := l.Table(skb.IPv4, "filter")
	in, _ := tab.Hook(skb.Input)
	first, err := tab.First(in)
	if err != nil || first.Policy || first.ChainEnd {
		t.Fatalf("%+v, %v", first, err)
	}
	policy, err := tab.Next(first)
	if err != nil || !policy.Policy || tab.RuleText(policy) != ":INPUT ACCEPT" {
		t.Errorf("policy %v %q %v", policy.Policy, tab.RuleText(policy), err)
	}
	var texts []string
	for _, r := range xtlab.Rules(t, tab) {
		located, err := tab.Locate(r.Offset)
		if err != nil || located.Chain != r.Chain || located.Number != r.Number {
			t.Errorf("%s: located in %s %d, %v", tab.RuleText(r), located.Chain, located.Number, err)
		}
		bare, err := tab.Rule(r.Offset)
		if err != nil || tab.RuleText(bare) != tab.RuleText(r) {
			t.Errorf("%q, %v", tab.RuleText(bare), err)
		}
		texts = append(texts, tab.RuleText(r))
	}
	if diff := cmp.Diff([]string{"-A INPUT -p udp -j A", "-A A -j DROP", "-A A -j ACCEPT"}, texts); diff != "" {
		t.Error(diff)
	}
	if _, ok := tab.Hook(skb.Prerouting); ok {
		t.Error("filter has a PREROUTING chain")
	}
}

func TestDamagedTablesAreErrors(t *testing.T) {
	l := xtlab.New(t)
	l.Restore(skb.IPv4, "filter", ":A - [0:0]", "-A INPUT -p udp -j A")
	r := xt.New(nil)
	defer r.Close()
	info, entries, err := r.LegacyTable(context.Background(), skb.IPv4, "filter")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := xtables.DecodeTable(skb.IPv4, "nat", info, entries); err == nil {
		t.Error("a table of another name")
	}
	if _, err := xtables.DecodeTable(skb.IPv4, "filter", info[:50], entries); err == nil {
		t.Error("a short struct getinfo")
	}
	if _, err := xtables.DecodeTable(skb.IPv4, "filter", info, entries[:8]); err == nil {
		t.Error("short entries")
	}
	start := binary.NativeEndian.Uint32(info[40:])
	for name, off := range map[string]uint32{"target offset": start + 88, "next offset": start + 90} {
		bad := append([]byte{}, entries...)
		binary.NativeEndian.PutUint16(bad[off:], 3)
		tab, err := xtables.DecodeTable(skb.IPv4, "filter", info, bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tab.First(start); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := append([]byte{}, entries...)
	binary.NativeEndian.PutUint32(bad[start+112+32:], start+8) // the verdict: no entry starts there
	tab, err := xtables.DecodeTable(skb.IPv4, "filter", info, bad)
	if err != nil {
		t.Fatal(err)
	}
	first, err := tab.First(start)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rule.Enumerate(1, func(ch *rule.Chooser) (xtables.LegacyResult, error) {
		return (&xtables.Evaluator{}).EvalRule(context.Background(), tab, first, newPacket(t, skb.UDP, "10.0.0.1:1", "10.0.0.2:2"), ch)
	})
	if err == nil {
		t.Error("a jump to where no chain starts is not noticed")
	}
}

func TestRulesWithoutEffectDoNotFork(t *testing.T) {
	l := xtlab.New(t)
	l.Restore(skb.IPv4, "filter",
		"-A INPUT -m limit --limit 1/sec -j LOG",
		"-A INPUT -m limit --limit 1/sec",
		"-A INPUT -m statistic --mode random --probability 0.5 -m recent --set --name x",
		"-A INPUT -m limit --limit 1/sec -j DROP",
		"-A INPUT -p tcp --sport 1:1000 -j DROP",
		"-A INPUT -j LOG --log-prefix always",
	)
	tab := l.Table(skb.IPv4, "filter")
	want := []int{1, 1, 2, 2, 2, 1}
	reader := xt.New(nil)
	defer reader.Close()
	e := &xtables.Evaluator{Env: kernelEnv{reader}}
	p := newPacket(t, skb.TCP, "10.0.0.1:0", "10.0.0.2:80")
	for i, r := range xtlab.Rules(t, tab) {
		branches, err := rule.Enumerate(10, func(ch *rule.Chooser) (xtables.LegacyResult, error) {
			return e.EvalRule(context.Background(), tab, r, p.Clone(), ch)
		})
		if err != nil || len(branches) != want[i] {
			t.Errorf("%s: %d branches, %v", tab.RuleText(r), len(branches), err)
		}
	}
}

func TestProbabilityIsWhatTheKernelStores(t *testing.T) {
	l := xtlab.New(t)
	l.Restore(skb.IPv4, "nat", ":S - [0:0]", "-A S -m statistic --mode random --probability 0.3333333333 -j RETURN")
	tab := l.Table(skb.IPv4, "nat")
	r := xtlab.Rules(t, tab)[0]
	branches, err := rule.Enumerate(10, func(ch *rule.Chooser) (xtables.LegacyResult, error) {
		return (&xtables.Evaluator{}).EvalRule(context.Background(), tab, r, newPacket(t, skb.TCP, "10.0.0.1:1", "10.0.0.2:80"), ch)
	})
	if err != nil || len(branches) != 2 {
		t.Fatalf("%d branches, %v", len(branches), err)
	}
	if want := big.NewRat(715827883, 1<<31); branches[0].P.Cmp(want) != 0 {
		t.Errorf("probability %s, want %s", branches[0].P, want)
	}
}
