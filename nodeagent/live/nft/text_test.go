//go:build linux

package nft_test

import (
	_ "embed"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// textRules are rules of every kind that nft 1.0.6 writes.
//
//go:embed testdata/text.nft
var textRules string

var handle = regexp.MustCompile(`^\s*(.*) # handle (\d+)$`)

// listed returns a chain's rules as nft prints them, by handle.
func listed(t *testing.T, c nftables.Chain) map[uint64]string {
	t.Helper()
	out := map[uint64]string{}
	for line := range strings.Lines(run(t, "", "nft", "-a", "list", "chain", c.Family.String(), c.Table, c.Name)) {
		m := handle.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil || strings.HasPrefix(m[1], "chain ") || strings.HasPrefix(m[1], "table ") {
			continue
		}
		n, err := strconv.ParseUint(m[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out[n] = m[1]
	}
	return out
}

// chains returns all chains of the namespace.
func chains(t *testing.T, e *env) []nftables.Chain {
	t.Helper()
	list, err := e.NFTChains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []nftables.Chain
	for _, o := range list {
		c, err := nftables.DecodeChain(o)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func TestTextIsWhatNftPrints(t *testing.T) {
	ctx := newNamespace(t)
	for name, input := range map[string]string{"text": textRules, "kube-proxy": kubeProxy} {
		run(t, "", "nft", "flush", "ruleset")
		load(t, input)
		e := newEnv(t)
		ev := &nftables.Evaluator{Env: e}
		seen := 0
		for _, c := range chains(t, e) {
			want := listed(t, c)
			for _, r := range rules(t, ctx, e, c.Family, c.Table, c.Name) {
				seen++
				if got := ev.Text(ctx, r); got != want[r.Handle] {
					t.Errorf("%s: chain %s %s %s\n got %s\nwant %s", name, c.Family, c.Table, c.Name, got, want[r.Handle])
				}
			}
		}
		if seen < 25 {
			t.Errorf("%s: only %d rules", name, seen)
		}
	}
}

// TestNothingIsOpaque keeps the decoder in step with what nft writes.
func TestNothingIsOpaque(t *testing.T) {
	ctx := newNamespace(t)
	load(t, textRules)
	e := newEnv(t)
	for _, c := range chains(t, e) {
		for _, r := range rules(t, ctx, e, c.Family, c.Table, c.Name) {
			for _, x := range r.Exprs {
				if o, ok := x.(*nftables.Opaque); ok {
					t.Errorf("rule %d of chain %s: %s (%s) is not understood", r.Handle, c.Name, o.Type, o.Why)
				}
			}
		}
	}
	if _, err := e.NFTRules(ctx, node.NFTIPv4, "t4", "missing"); !isNotFound(err) {
		t.Errorf("a chain that is not there: %v", err)
	}
}
