//go:build linux

package rtnl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/fib"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// TestModelAgreesWithKernel holds the Go model of routing against the kernel: random interfaces, addresses, routes, rules
// and sysctls in a namespace of their own, then random questions to both. FIB_SEED and FIB_SECONDS make a longer run that
// begins with another seed.
func TestModelAgreesWithKernel(t *testing.T) {
	seed, length := randomRun(t, 1, 12*time.Second)
	total := tally{kinds: map[string]int{}}
	begin := time.Now()
	cases := 0
	for ; cases < 1_000_000 && (cases < 3 || time.Since(begin) < length) && !t.Failed(); cases++ {
		// A thread that has entered a namespace is thrown away with its goroutine.
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			compareOne(t, seed+uint64(cases), &total)
		}()
		<-done
	}
	t.Logf("%d namespaces, %d questions, %d asked again since the state had moved: %v", cases, total.asked, total.again, total.kinds)
	for _, kind := range []string{"refused", "one of", "local", "by rule", "address type", "bare"} {
		if total.kinds[kind] == 0 {
			t.Errorf("no question of the kind %q was asked", kind)
		}
	}
}

// randomRun is the seed that a random test begins with and how long it goes on, from the environment when that says.
func randomRun(t *testing.T, seed uint64, length time.Duration) (uint64, time.Duration) {
	t.Helper()
	if v := os.Getenv("FIB_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	if v := os.Getenv("FIB_SECONDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		length = time.Duration(n) * time.Second
	}
	return seed, length
}

type tally struct {
	asked, again int
	kinds        map[string]int
}

// compareOne makes one namespace and asks questions in it.
func compareOne(t *testing.T, seed uint64, total *tally) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Errorf("making a network namespace (needs root): %v", err)
		return
	}
	g := &scene{Rand: rand.New(rand.NewPCG(seed, 0))}
	g.make()
	if err := g.apply(); err != nil {
		t.Errorf("seed %d: %v", seed, err)
		return
	}
	ctx := context.Background()
	r, s, err := look(ctx)
	if err != nil {
		t.Errorf("seed %d: %v\n%s", seed, err, g.text(""))
		return
	}
	defer func() { r.Close() }()
	for range 250 {
		q := g.question()
		total.asked++
		d := q.differ(ctx, r, s, total)
		if d == "" {
			continue
		}
		// The kernel learns of links a moment later: look again before a difference counts.
		r.Close()
		time.Sleep(300 * time.Millisecond)
		if r, s, err = look(ctx); err != nil {
			t.Errorf("seed %d: %v", seed, err)
			return
		}
		total.again++
		if d := q.differ(ctx, r, s, total); d != "" {
			t.Errorf("seed %d: %s\n%s\n%s", seed, q, d, g.text(q.family()))
			return
		}
	}
}

// look reads the state of the namespace, by way of its JSON form.
func look(ctx context.Context) (*Reader, *fib.State, error) {
	r, err := New(nil)
	if err != nil {
		return nil, nil, err
	}
	s, err := r.FIBState(ctx, 10_000)
	if err != nil {
		return r, nil, err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return r, nil, err
	}
	out := &fib.State{}
	return r, out, json.Unmarshal(b, out)
}

// question is one of a route, of an address's type, or of a bare lookup.
type question struct {
	route node.RouteQuery
	typ   bool
	bare  bool
}

func (q question) family() string {
	if q.route.Dst.Is4() {
		return "-4"
	}
	return "-6"
}

func (q question) String() string {
	r := q.route
	if q.typ {
		return fmt.Sprintf("type of %s on %q", r.Dst, r.Out)
	}
	uid := ""
	if r.UID != nil {
		uid = fmt.Sprintf(" uid %d", *r.UID)
	}
	return fmt.Sprintf("ip route get %s from %s iif %q oif %q mark %d ipproto %d sport %d dport %d tos %#x%s (all %v, bare %v)",
		r.Dst, r.Src, r.In, r.Out, r.Mark, r.Proto, r.SrcPort, r.DstPort, r.TOS, uid, r.All, q.bare)
}

// differ asks both and says how they differ, "" when they agree.
func (q question) differ(ctx context.Context, r *Reader, s *fib.State, total *tally) string {
	if q.typ {
		total.kinds["address type"]++
		want, err := r.AddrType(ctx, q.route.Dst, q.route.Out)
		got, merr := s.AddrType(ctx, q.route.Dst, q.route.Out)
		if err != nil || merr != nil || got != want {
			return fmt.Sprintf("kernel %d, %v; model %d, %v", want, err, got, merr)
		}
		return ""
	}
	if q.bare {
		total.kinds["bare"]++
		return q.bareDiffers(ctx, r, s)
	}
	want, err := r.ask(ctx, q.route)
	got, merr := s.Route(ctx, q.route)
	var refused, modelled *node.RouteError
	switch {
	case errors.As(err, &refused):
		total.kinds["refused"]++
		if len(got.OneOf) > 0 && (refused.Number == int(unix.EINVAL) || refused.Number == int(unix.EXDEV)) {
			return "" // it chose a hop that the source may not leave by, or come back by
		}
		if !errors.As(merr, &modelled) || !likewise(refused, modelled) {
			return fmt.Sprintf("kernel %v; model %+v, %v", err, got, merr)
		}
		if modelled.Reason == "" {
			return "the model gives no reason for " + modelled.Errno
		}
		return ""
	case err != nil || merr != nil:
		return fmt.Sprintf("kernel %+v, %v; model %+v, %v", want, err, got, merr)
	}
	switch {
	case len(got.OneOf) > 0:
		total.kinds["one of"]++
	case want.Type == node.RouteLocal:
		total.kinds["local"]++
	case want.Table != unix.RT_TABLE_MAIN && want.Table != unix.RT_TABLE_LOCAL:
		total.kinds["by rule"]++
	default:
		total.kinds["route"]++
	}
	return sameRoute(want, got)
}

// sameRoute compares the kernel's route with the model's, which may leave the next hop open.
func sameRoute(want, got node.Route) string {
	if len(got.OneOf) > 0 {
		found := false
		for _, h := range got.OneOf {
			if h.Out == want.Out && h.Gateway == want.Gateway && h.PrefSrc == want.PrefSrc {
				found = true
			}
		}
		if !found {
			return fmt.Sprintf("kernel %+v; model %+v", want, got)
		}
		got.OneOf, got.Out, got.Gateway, got.PrefSrc = nil, want.Out, want.Gateway, want.PrefSrc
	}
	// IPv6 lists the chosen hop first.
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.SortSlices(func(a, b node.NextHop) bool {
		return fmt.Sprint(a) < fmt.Sprint(b)
	}))
}

// bareDiffers compares a bare IPv4 lookup with what the kernel does for a packet from a foreign source that arrives on lo,
// where nothing else is asked: lo forwards, has no reverse path filter and accepts local sources.
func (q question) bareDiffers(ctx context.Context, r *Reader, s *fib.State) string {
	k := q.route
	k.In = "lo"
	if k.Proto == 0 {
		k.Proto = unix.IPPROTO_UDP // what the kernel takes a query without one for
	}
	want, err := r.ask(ctx, k)
	if portsUnread(s.Rules4) {
		return ""
	}
	got, merr := s.FIBLookup(ctx, node.FIBQuery{
		Dst: k.Dst, Src: k.Src, Mark: k.Mark, Proto: k.Proto, SrcPort: k.SrcPort, DstPort: k.DstPort, TOS: k.TOS,
	})
	var refused, modelled *node.RouteError
	if errors.As(err, &refused) {
		if !errors.As(merr, &modelled) || modelled.Number != refused.Number {
			return fmt.Sprintf("kernel %v; model's bare lookup %+v, %v", err, got, merr)
		}
		return ""
	}
	if err != nil || merr != nil {
		return fmt.Sprintf("kernel %v; model's bare lookup %v", err, merr)
	}
	if want.Type != got.Type || want.Table != got.Table {
		return fmt.Sprintf("kernel %+v; model's bare lookup %+v", want, got)
	}
	if want.Type == node.RouteUnicast && !got.Uses(want.Out) {
		return fmt.Sprintf("kernel by %s; model's bare lookup by %s of %+v", want.Out, got.Out, got.Hops)
	}
	return ""
}

// portsUnread tells rules that make the two differ: on input the kernel looks at ports only when a rule that is not for lo
// has some.
func portsUnread(rules []fib.Rule) bool {
	some, others := false, false
	for _, r := range rules {
		if r.Proto != 0 || r.SrcPorts != (fib.Ports{}) || r.DstPorts != (fib.Ports{}) {
			some, others = true, others || r.IIF != "lo"
		}
	}
	return some && !others
}

// batch runs ip with one command a line; commands that the kernel refuses are passed over.
func batch(family string, commands []string) error {
	c := exec.Command("ip", family, "-force", "-batch", "-")
	c.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := c.CombinedOutput()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		return fmt.Errorf("ip %s -batch: %w: %s", family, err, out)
	}
	return nil
}
