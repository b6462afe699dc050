//go:build linux

package xtables_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// notExtensions are files among iptables' extensions that are not a match or target of their own.
var notExtensions = []string{"standard", "NAT"}

func TestEveryExtensionThatDebianShipsIsListed(t *testing.T) {
	out, err := exec.Command("dpkg", "-L", "iptables").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, e := range xtables.Extensions() {
		known[e.Name] = true
		if e.Note == "" && e.Modelled == xtables.Unknown {
			t.Errorf("%s is not modelled and does not say why", e.Name)
		}
		if len(e.Revisions) == 0 || !slices.IsSorted(e.Revisions) {
			t.Errorf("%s has revisions %v", e.Name, e.Revisions)
		}
	}
	seen := 0
	for _, file := range strings.Fields(string(out)) {
		base := strings.TrimSuffix(filepath.Base(file), ".so")
		prefix, name, ok := strings.Cut(base, "_")
		if !ok || !slices.Contains([]string{"libxt", "libipt", "libip6t"}, prefix) || slices.Contains(notExtensions, name) {
			continue
		}
		seen++
		if !known[name] {
			t.Errorf("%s is not listed", base)
		}
	}
	if seen < 100 {
		t.Errorf("only %d extensions found in the package", seen)
	}
}

func TestWhatIsNotKnownIsNeverAnswered(t *testing.T) {
	e := &xtables.Evaluator{}
	p := newPacket(t, skb.TCP, "10.0.0.1:1", "10.0.0.2:80")
	for _, c := range []struct {
		name string
		rev  uint8
		info []byte
	}{{"geoip", 0, make([]byte, 100)}, {"tcp", 9, make([]byte, 100)}, {"tcp", 0, make([]byte, 11)}, {"icmp6", 0, make([]byte, 8)}} {
		branches, err := rule.Enumerate(10, func(ch *rule.Chooser) (bool, error) {
			ok, _, err := e.EvalMatch(context.Background(), c.name, c.rev, c.info, skb.IPv4, p, ch)
			return ok, err
		})
		if err != nil || len(branches) != 2 || len(branches[0].Assumptions) != 1 || branches[0].Assumptions[0].Unknown == nil {
			t.Errorf("match %s revision %d: %+v, %v", c.name, c.rev, branches, err)
		}
	}
	branches, err := rule.Enumerate(10, func(ch *rule.Chooser) (rule.Result, error) {
		return e.EvalTarget(context.Background(), "XNAT", 1, nil, skb.IPv4, p, ch)
	})
	if err != nil || len(branches) != 2 || branches[0].Assumptions[0].Unknown == nil {
		t.Errorf("target: %+v, %v", branches, err)
	}
	if !xtables.TargetHasEffect("XNAT", 1, nil) {
		t.Error("a target that is not known is taken to do nothing")
	}
}

// A packet that is only described by its addresses and destination port leaves these open.
func TestUnknownPartsOfThePacketFork(t *testing.T) {
	for _, c := range []struct {
		name, words string
		info        []byte
	}{
		{"ttl", "TTL 64", []byte{0, 64}},
		{"length", "packet length 0:100", []byte{0, 0, 100, 0, 0}},
		{"tos", "type of service 0x10/0xff", nil},
		{"tcp", "source port 1:1000", []byte{1, 0, 0xe8, 3, 0, 0, 0xff, 0xff, 0, 0, 0, 0}},
		{"tcpmss", "MSS 1:9", []byte{1, 0, 9, 0, 0}},
	} {
		rev := uint8(0)
		if c.name == "tos" {
			rev, c.info = 1, []byte{0xff, 0x10, 0}
		}
		p := newPacket(t, skb.TCP, "10.0.0.1:0", "10.0.0.2:80")
		branches, err := rule.Enumerate(10, func(ch *rule.Chooser) (bool, error) {
			ok, _, err := (&xtables.Evaluator{}).EvalMatch(context.Background(), c.name, rev, c.info, skb.IPv4, p, ch)
			return ok, err
		})
		if err != nil || len(branches) != 2 {
			t.Errorf("%s: %+v, %v", c.name, branches, err)
			continue
		}
		if got := branches[0].Assumptions[0].Condition; got != c.words {
			t.Errorf("%s: condition %q, want %q", c.name, got, c.words)
		}
	}
}

// iptables 1.8.9 prints "! --sport 0:65535", which never matches, as nothing, which always does. Newer ones print it.
func TestNeverMatchingRangesAreNotHidden(t *testing.T) {
	info := []byte{0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 1}
	if got, want := xtables.MatchText("tcp", 0, info, skb.IPv4), "-m tcp ! --sport 0:65535"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTCPResetIsNotAnsweredWithAReset(t *testing.T) {
	p := newPacket(t, skb.TCP, "10.0.0.1:1", "10.0.0.2:80")
	p.SetTCPFlags(4, 0xff)
	for with, want := range map[byte]rule.Code{7: rule.Drop, 3: rule.Reject} {
		branches, err := rule.Enumerate(10, func(ch *rule.Chooser) (rule.Result, error) {
			return (&xtables.Evaluator{}).EvalTarget(context.Background(), "REJECT", 0, []byte{with, 0, 0, 0}, skb.IPv4, p, ch)
		})
		if err != nil || len(branches) != 1 || branches[0].Value.Code != want {
			t.Errorf("with %d: %+v, %v", with, branches, err)
		}
	}
}
