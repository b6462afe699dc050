//go:build linux

package main

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestSmallStates runs the whole benchmark on small states. It holds no figure against anything: only the agent's answer
// is checked, which measuring does, and that everything was measured.
func TestSmallStates(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	var page, progress strings.Builder
	if err := run(ctx, []string{"-runs", "2", "-nftables", "20,50", "-iptables-nft", "50", "-iptables-legacy", "50", "-flows", "2000"}, &page, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	for _, want := range []string{"## nftables\n", "## iptables-nft\n", "## iptables-legacy\n", "| 20 | ", "flat, at most 1.3 times", "at most 40 MB beside the table", "## flows\n", "| 2000 | ipv6 | ", "at most 1/15 of conntrack -L with 2000 flows of ipv4"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(page.String())
	}
}
