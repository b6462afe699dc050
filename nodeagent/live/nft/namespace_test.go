//go:build linux

package nft_test

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nft"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// newNamespace moves the test's thread into a network namespace of its own, which ends with the test. Programs that the
// test starts run in it too. The thread is never given back: it ends with the goroutine.
func newNamespace(t *testing.T) context.Context {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
	run(t, "", "ip", "link", "set", "lo", "up")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// run runs a program in the test's namespace and returns what it prints.
func run(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// load loads rules in nft's language.
func load(t *testing.T, rules string) { t.Helper(); run(t, rules, "nft", "-f", "-") }

// env answers what rules ask beside nftables: every address in local is this host's, links are given.
type env struct {
	*nft.Reader
	links     []node.Link
	addresses []node.Address
	local     map[netip.Addr]bool
	routes    map[netip.Addr]node.Route
	sockets   []node.Socket
}

func (e *env) Links(context.Context) ([]node.Link, error)        { return e.links, nil }
func (e *env) Addresses(context.Context) ([]node.Address, error) { return e.addresses, nil }
func (e *env) Sysctl(context.Context, string) (string, error)    { return "0", nil }

func (e *env) Route(_ context.Context, q node.RouteQuery) (node.Route, error) {
	if r, ok := e.routes[q.Dst]; ok {
		return r, nil
	}
	return node.Route{}, &node.RouteError{Errno: "ENETUNREACH", Number: int(unix.ENETUNREACH)}
}

func (e *env) SourceRules(context.Context, bool) (bool, error) { return false, nil }

func (e *env) FIBLookup(_ context.Context, q node.FIBQuery) (node.Route, error) {
	return e.Route(context.Background(), node.RouteQuery{Dst: q.Dst})
}

func (e *env) AddrType(_ context.Context, a netip.Addr, _ string) (node.RouteType, error) {
	if e.local[a] {
		return node.RouteLocal, nil
	}
	return node.RouteUnicast, nil
}

func (e *env) Listening(context.Context, uint8, netip.AddrPort) ([]node.Socket, error) {
	return e.sockets, nil
}

func (e *env) OnPort(context.Context, uint8, skb.Family, uint16) ([]node.Socket, error) {
	return e.sockets, nil
}

// newEnv opens a reader in the test's namespace.
func newEnv(t *testing.T) *env {
	t.Helper()
	r, err := nft.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return &env{Reader: r, links: []node.Link{{Name: "lo", Index: 1, Flags: 9, Type: 772}}, local: map[netip.Addr]bool{}}
}

// rules reads and decodes one chain.
func rules(t *testing.T, ctx context.Context, e *env, f node.NFTFamily, table, chain string) []*nftables.Rule {
	t.Helper()
	list, err := e.NFTRules(ctx, f, table, chain)
	if err != nil {
		t.Fatal(err)
	}
	var out []*nftables.Rule
	for _, b := range list {
		r, err := nftables.DecodeRule(f, table, chain, b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// newPacket describes the first packet of a tracked connection.
func newPacket(t *testing.T, proto uint8, src, dst string) *skb.Packet {
	t.Helper()
	p, err := skb.New(proto, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
	if err != nil {
		t.Fatal(err)
	}
	tuple := skb.Tuple{Proto: proto, Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort(dst)}
	p.Ct = &skb.Conn{Orig: tuple, Reply: tuple.Reverse(), New: true}
	p.State = skb.CtNew
	return p
}

// fate is one way that a packet went through a chain.
type fate struct {
	rule.Result
	packet *skb.Packet
	way    []string
}

// walk runs a packet through a chain and the chains that it calls, for every combination of choices.
func walk(t *testing.T, ctx context.Context, e *env, ev *nftables.Evaluator, f node.NFTFamily, table, chain string, p *skb.Packet) []rule.Branch[fate] {
	t.Helper()
	branches, err := rule.Enumerate(1000, func(ch *rule.Chooser) (fate, error) {
		out := fate{packet: p.Clone()}
		var err error
		out.Result, err = walkChain(t, ctx, e, ev, f, table, chain, out.packet, ch, &out.way)
		return out, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return branches
}

func walkChain(t *testing.T, ctx context.Context, e *env, ev *nftables.Evaluator, f node.NFTFamily, table, chain string, p *skb.Packet, ch *rule.Chooser, way *[]string) (rule.Result, error) {
	for _, r := range rules(t, ctx, e, f, table, chain) {
		res, err := ev.Eval(ctx, r, p, ch)
		if err != nil {
			return res, err
		}
		if res.Action != "" || res.Says != "" {
			*way = append(*way, res.Action+" | "+res.Says)
		}
		switch res.Code {
		case rule.Continue:
		case rule.Jump:
			res, err = walkChain(t, ctx, e, ev, f, table, res.Chain, p, ch, way)
			if err != nil || res.Code != rule.Continue {
				return res, err
			}
		case rule.Goto:
			return walkChain(t, ctx, e, ev, f, table, res.Chain, p, ch, way)
		case rule.Return:
			return rule.Result{}, nil
		default:
			return res, nil
		}
	}
	return rule.Result{}, nil
}

func isNotFound(err error) bool { return errors.Is(err, node.ErrNotFound) }

var errorLine = regexp.MustCompile(`(?m)^/dev/stdin:(\d+):.*`)

// loadWhatWorks loads rules, one to a line, without those that nft or the kernel refuses. It returns what was left out.
func loadWhatWorks(t *testing.T, head string, lines []string, tail string) (refused map[int]bool) {
	t.Helper()
	refused = map[int]bool{}
	first := strings.Count(head, "\n") + 1
	for {
		var script strings.Builder
		script.WriteString(head)
		for i, l := range lines {
			if !refused[i] {
				script.WriteString(l)
			}
			script.WriteString("\n")
		}
		script.WriteString(tail)
		cmd := exec.Command("nft", "-f", "/dev/stdin")
		cmd.Stdin = strings.NewReader(script.String())
		out, err := cmd.CombinedOutput()
		if err == nil {
			return refused
		}
		found := false
		for _, m := range errorLine.FindAllStringSubmatch(string(out), -1) {
			n, _ := strconv.Atoi(m[1])
			if i := n - first; i >= 0 && i < len(lines) && !refused[i] {
				refused[i], found = true, true
				if strings.Contains(m[0], "Could not process rule") {
					// The kernel gives up at the first: the others failed with it.
					break
				}
			}
		}
		if !found {
			t.Fatalf("nft: %v\n%s", err, out)
		}
	}
}
