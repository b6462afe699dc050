//go:build linux

package nft_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nft"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

func TestHeadersAreDecoded(t *testing.T) {
	ctx := newNamespace(t)
	load(t, `table inet t { comment "a table"; flags dormant; }
table inet u {
 set s { type ipv4_addr . inet_service; flags interval; size 100; timeout 1h; comment "a set"; }
 chain base { comment "a chain"; type nat hook postrouting priority srcnat + 5; policy drop; }
 chain plain { }
}
table netdev n { chain in { type filter hook ingress device lo priority 0; }; }
`)
	e := newEnv(t)
	list, err := e.NFTTables(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var tables []nftables.Table
	for _, o := range list {
		d, err := nftables.DecodeTable(o)
		if err != nil {
			t.Fatal(err)
		}
		d.Handle = 0
		tables = append(tables, d)
	}
	if d := cmp.Diff([]nftables.Table{
		{Family: node.NFTInet, Name: "t", Dormant: true, Comment: "a table"}, {Family: node.NFTInet, Name: "u"}, {Family: node.NFTNetdev, Name: "n"},
	}, tables); d != "" {
		t.Errorf("tables (-want +got)\n%s", d)
	}
	var got []nftables.Chain
	for _, c := range chains(t, e) {
		if c.Handle == 0 {
			t.Errorf("chain %s has no handle", c.Name)
		}
		c.Handle = 0
		got = append(got, c)
	}
	if d := cmp.Diff([]nftables.Chain{
		{Family: node.NFTInet, Table: "u", Name: "base", Base: true, Type: "nat", Hook: 4, Priority: 105, Policy: rule.Drop, Comment: "a chain"},
		{Family: node.NFTInet, Table: "u", Name: "plain", Policy: rule.Accept},
		{Family: node.NFTNetdev, Table: "n", Name: "in", Base: true, Type: "filter", Devices: []string{"lo"}, Policy: rule.Accept},
	}, got); d != "" {
		t.Errorf("chains (-want +got)\n%s", d)
	}
	b, err := e.NFTSet(ctx, node.NFTInet, "u", "s")
	if err != nil {
		t.Fatal(err)
	}
	s, err := nftables.DecodeSet(b)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "s" || s.Comment != "a set" || s.Size != 100 || s.TimeoutMillis != 3600000 || !cmp.Equal(s.Fields, []int{4, 2}) {
		t.Errorf("set %+v", s)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	ctx := newNamespace(t)
	load(t, "table ip t { set s { type ipv4_addr; }; chain c { }; }")
	e := newEnv(t)
	for name, err := range map[string]error{
		"chain":    second(e.NFTChain(ctx, node.NFTIPv4, "t", "x")),
		"rules":    second(e.NFTRules(ctx, node.NFTIPv4, "t", "x")),
		"table":    second(e.NFTRules(ctx, node.NFTIPv4, "x", "c")),
		"set":      second(e.NFTSet(ctx, node.NFTIPv4, "t", "x")),
		"element":  second(e.NFTElement(ctx, node.NFTIPv4, "t", "s", []byte{1, 2, 3, 4})),
		"catchall": second(e.NFTElement(ctx, node.NFTIPv4, "t", "s", nil)),
		"elements": second(e.NFTElements(ctx, node.NFTIPv4, "t", "x")),
		"object":   second(e.NFTObject(ctx, node.NFTIPv4, "t", "x", nftables.ObjectCounter)),
	} {
		if !errors.Is(err, node.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := e.NFTRules(ctx, node.NFTIPv4, "t", "c"); err != nil || len(list) != 0 {
		t.Errorf("an empty chain: %d rules, %v", len(list), err)
	}
}

// TestAnExpiredElementIsNotFound asks for an element whose time is over, which the kernel has not collected yet.
func TestAnExpiredElementIsNotFound(t *testing.T) {
	ctx := newNamespace(t)
	load(t, "table ip t { set s { type ipv4_addr; flags timeout; gc-interval 1h; elements = { 10.0.0.2 timeout 200ms, 10.0.0.3 timeout 1h }; }; chain c { ip daddr @s drop; }; }")
	e := newEnv(t)
	list := rules(t, ctx, e, node.NFTIPv4, "t", "c")
	code := func(dst string) rule.Code {
		ev := &nftables.Evaluator{Env: e}
		branches, err := rule.Enumerate(10, func(ch *rule.Chooser) (rule.Result, error) {
			return ev.Eval(ctx, list[0], newPacket(t, skb.TCP, "10.0.0.1:1", dst), ch)
		})
		if err != nil || len(branches) != 1 {
			t.Fatalf("%d branches, %v", len(branches), err)
		}
		return branches[0].Value.Code
	}
	if got := code("10.0.0.2:1"); got != rule.Drop {
		t.Errorf("before: %v", got)
	}
	time.Sleep(300 * time.Millisecond)
	if got := code("10.0.0.2:1"); got != rule.Continue {
		t.Errorf("after: %v", got)
	}
	if got := code("10.0.0.3:1"); got != rule.Drop {
		t.Errorf("another: %v", got)
	}
}

func second[T any](_ T, err error) error { return err }

func TestGenerationCountsCommits(t *testing.T) {
	ctx := newNamespace(t)
	e := newEnv(t)
	before, err := e.NFTGeneration(ctx)
	if err != nil {
		t.Fatal(err)
	}
	load(t, "table ip t { }")
	after, err := e.NFTGeneration(ctx)
	if err != nil || after != before+1 {
		t.Errorf("generation %d after %d, %v", after, before, err)
	}
}

func TestWithoutCapabilityTheErrorSaysWhich(t *testing.T) {
	newNamespace(t)
	r, err := nft.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// The thread alone loses the capability, for its last request.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	_, err = r.NFTChains(context.Background())
	var read *node.ReadError
	if !errors.Is(err, node.ErrPermission) || !errors.As(err, &read) || read.Needs != "CAP_NET_ADMIN" {
		t.Errorf("got %v", err)
	}
}

// TestALargeMapCostsOneLookup is the promise of lazy reads.
func TestALargeMapCostsOneLookup(t *testing.T) {
	ctx := newNamespace(t)
	var elements strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&elements, "10.%d.%d.%d . tcp . 80 : goto svc,\n", i>>16&255, i>>8&255, i&255)
	}
	load(t, "table ip t { map m { type ipv4_addr . inet_proto . inet_service : verdict; elements = { "+strings.Replace(elements.String(), ": goto svc", ": drop", 1)+" } }\n"+
		"chain svc { }\n chain c { ip daddr . meta l4proto . th dport vmap @m\n }\n}")
	var count nlsock.Counter
	r, err := nft.New(&count)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	e := &env{Reader: r}
	ev := &nftables.Evaluator{Env: e}
	list := rules(t, ctx, e, node.NFTIPv4, "t", "c")
	count = nlsock.Counter{}
	p := newPacket(t, skb.TCP, "10.9.9.9:1", "10.0.39.15:80")
	branches, err := rule.Enumerate(10, func(ch *rule.Chooser) (rule.Result, error) { return ev.Eval(ctx, list[0], p, ch) })
	if err != nil || len(branches) != 1 || branches[0].Value.Chain != "svc" || branches[0].Value.Says != "10.0.39.15 . tcp . 80 is in m" {
		t.Fatalf("%+v, %v", branches, err)
	}
	if count.Messages > 4 || count.Bytes > 4096 {
		t.Errorf("it cost %+v", count)
	}
}

// TestDumpsSurviveChanges reads while rules change.
func TestDumpsSurviveChanges(t *testing.T) {
	newNamespace(t)
	var script strings.Builder
	script.WriteString("table ip t {\n")
	for i := range 300 {
		fmt.Fprintf(&script, "chain c%d { counter\n }\n", i)
	}
	script.WriteString("}\n")
	load(t, script.String())
	e := newEnv(t)
	cmd := exec.Command("sh", "-c", `i=0; while [ $i -lt 60 ]; do nft add table ip x; nft delete table ip x; i=$((i+1)); done`)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
		n := 0
		for _, c := range chains(t, e) {
			if c.Table == "t" {
				n++
			}
		}
		if n != 300 {
			t.Fatalf("%d of 300 chains", n)
		}
	}
}
