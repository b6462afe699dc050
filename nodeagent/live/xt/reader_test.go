//go:build linux

package xt_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt/xtlab"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

var ctx = context.Background()

func TestReadingMakesNoTable(t *testing.T) {
	l := xtlab.New(t)
	r := xt.New(nil)
	defer r.Close()
	for _, f := range []skb.Family{skb.IPv4, skb.IPv6} {
		if names, err := r.LegacyTables(ctx, f); err != nil || len(names) != 0 {
			t.Errorf("%s: %v, %v", f, names, err)
		}
		if _, _, err := r.LegacyTable(ctx, f, "nat"); !errors.Is(err, node.ErrNotFound) {
			t.Errorf("%s: %v", f, err)
		}
		if names, err := r.LegacyTables(ctx, f); err != nil || len(names) != 0 {
			t.Errorf("%s: reading made %v, %v", f, names, err)
		}
	}
	l.Restore(skb.IPv6, "mangle", "-A INPUT -j ACCEPT")
	if names, err := r.LegacyTables(ctx, skb.IPv6); err != nil || !cmp.Equal(names, []string{"mangle"}) {
		t.Errorf("%v, %v", names, err)
	}
	count := &nlsock.Counter{}
	r = xt.New(count)
	defer r.Close()
	if _, entries, err := r.LegacyTable(ctx, skb.IPv6, "mangle"); err != nil || count.Bytes < int64(len(entries)) {
		t.Errorf("%+v, %v", count, err)
	}
}

func TestRecentListsTellAges(t *testing.T) {
	l := xtlab.New(t)
	r := xt.New(nil)
	defer r.Close()
	if _, err := r.Recent(ctx, "seen", skb.IPv4); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("a list that is not there: %v", err)
	}
	if _, err := r.Recent(ctx, "../stat", skb.IPv4); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("a path: %v", err)
	}
	l.Restore(skb.IPv4, "filter", "-A INPUT -m recent --rcheck --name seen")
	file := "/proc/thread-self/net/xt_recent/seen"
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0); err != nil {
			t.Fatal(err)
		}
	}
	write("+10.0.0.1")
	time.Sleep(1200 * time.Millisecond)
	write("+10.0.0.1")
	write("+10.0.0.2")
	write("+fd00::1")
	got, err := r.Recent(ctx, "seen", skb.IPv4)
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, e := range got {
		switch e.Addr {
		case netip.MustParseAddr("10.0.0.1"):
			if len(e.AgesMillis) != 2 || e.AgesMillis[0] > 500 || e.AgesMillis[1] < 1000 || e.AgesMillis[1] > 2500 {
				t.Errorf("ages %v", e.AgesMillis)
			}
		case netip.MustParseAddr("10.0.0.2"):
			if len(e.AgesMillis) != 1 || e.AgesMillis[0] > 500 {
				t.Errorf("ages %v", e.AgesMillis)
			}
		default:
			t.Errorf("%+v", e)
		}
	}
	if got, err := r.Recent(ctx, "seen", skb.IPv6); err != nil || len(got) != 1 || got[0].Addr != netip.MustParseAddr("fd00::1") {
		t.Errorf("%+v, %v", got, err)
	}
	// The ring of stamps goes round.
	for range 30 {
		write("+10.0.0.2")
	}
	got, err = r.Recent(ctx, "seen", skb.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range got {
		for i := 1; i < len(e.AgesMillis); i++ {
			if e.AgesMillis[i] < e.AgesMillis[i-1] {
				t.Errorf("%s: not newest first: %v", e.Addr, e.AgesMillis)
			}
		}
	}
}

func TestIPSetsAreReadAndAsked(t *testing.T) {
	l := xtlab.New(t)
	l.Input(`create a hash:ip timeout 60 counters
add a 10.0.0.1
create b hash:net family inet6 skbinfo
add b fd00::/64
create p bitmap:port range 100-200
create l list:set
add l b
add l a before b
`, "ipset", "restore")
	l.Restore(skb.IPv4, "filter", "-A INPUT -m set --match-set p dst", "-A INPUT -m set --match-set l src")
	r := xt.New(nil)
	defer r.Close()
	for name, want := range map[string]node.IPSet{
		"a": {Name: "a", Type: "hash:ip", Family: skb.IPv4, HasTimeout: true, HasCounters: true},
		"b": {Name: "b", Type: "hash:net", Family: skb.IPv6, HasSkbInfo: true},
		"p": {Name: "p", Type: "bitmap:port", PortFrom: 100, PortTo: 200},
		"l": {Name: "l", Type: "list:set"},
	} {
		got, err := r.IPSet(ctx, name)
		got.Revision = 0
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	if members, err := r.IPSetMembers(ctx, "l"); err != nil || !cmp.Equal(members, []string{"a", "b"}) {
		t.Errorf("members %v, %v", members, err)
	}
	for _, name := range []string{"none", "", strings.Repeat("x", 40)} {
		if _, err := r.IPSet(ctx, name); !errors.Is(err, node.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	names := map[string]bool{}
	for i := range uint16(8) {
		name, err := r.IPSetName(ctx, i)
		if err != nil && !errors.Is(err, node.ErrNotFound) {
			t.Error(err)
		}
		names[name] = true
	}
	if !names["a"] || !names["b"] || !names["p"] || !names["l"] {
		t.Errorf("names by index: %v", names)
	}
	v4 := func(a string) []byte {
		return append([]byte{12, 0, 1, 0x80, 8, 0, 1, 0x40}, netip.MustParseAddr(a).AsSlice()...)
	}
	for addr, want := range map[string]bool{"10.0.0.1": true, "10.0.0.2": false} {
		if in, err := r.IPSetTest(ctx, "a", skb.IPv4, v4(addr)); err != nil || in != want {
			t.Errorf("%s: %v, %v", addr, in, err)
		}
	}
	if _, err := r.IPSetTest(ctx, "none", skb.IPv4, v4("10.0.0.1")); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestBigTablesAreReadWhole(t *testing.T) {
	l := xtlab.New(t)
	var lines []string
	for i := range 3000 {
		lines = append(lines, fmt.Sprintf(":KUBE-SVC-%04d - [0:0]", i))
	}
	for i := range 3000 {
		lines = append(lines, fmt.Sprintf("-A KUBE-SVC-%04d -d 10.96.%d.%d/32 -p tcp -m tcp --dport 80 -j RETURN", i, i/256, i%256))
	}
	l.Restore(skb.IPv4, "nat", lines...)
	table := l.Table(skb.IPv4, "nat")
	rules := xtlab.Rules(t, table)
	if len(rules) != 3000 {
		t.Fatalf("%d rules", len(rules))
	}
	last := rules[2999]
	if got, want := table.RuleText(last), lines[5999]; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
