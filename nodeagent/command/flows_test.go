//go:build linux

package command

import (
	"bytes"
	"context"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/ctnl/ctnltest"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// served is the agent's answer to one request, in the calling thread's namespace.
func served(t *testing.T, q wire.Request, args ...string) wire.Answer {
	t.Helper()
	var in, out, errs bytes.Buffer
	if err := wire.Write(&in, q); err != nil {
		t.Fatal(err)
	}
	if code := Run(context.Background(), append([]string{"serve"}, args...), Streams{In: &in, Out: &out, Err: &errs}); code != ExitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	var h wire.Hello
	var a wire.Answer
	if err := wire.Read(&out, &h); err != nil {
		t.Fatal(err)
	}
	if err := wire.Read(&out, &a); err != nil {
		t.Fatal(err)
	}
	if a.Error != nil {
		t.Fatal(a.Error)
	}
	return a
}

func TestAnAnswerSaysHowFlowsWereChosen(t *testing.T) {
	ctnltest.Still(t)
	runtime.LockOSThread() // for good: the thread and its namespace end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	s, err := nlsock.Open(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	services := []netip.AddrPort{netip.MustParseAddrPort("10.96.0.1:80"), netip.MustParseAddrPort("[fd00:96::1]:80"), netip.MustParseAddrPort("[fd00:96::2]:81")}
	for i := range 12000 {
		client, endpoint := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddrPort("10.128.0.1:8080")
		service := services[i%3]
		if service.Addr().Is6() {
			client, endpoint = netip.MustParseAddr("fd00::1"), netip.MustParseAddrPort("[fd00:128::1]:8080")
		}
		if i > 300 { // most go elsewhere
			service = netip.AddrPortFrom(service.Addr().Next().Next(), service.Port())
		}
		e := ctnltest.Entry{Tuple: skb.Tuple{Proto: skb.TCP, Src: netip.AddrPortFrom(client, uint16(1024+i)), Dst: service}, Endpoint: endpoint}
		if err := e.Insert(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(to []netip.AddrPort, args ...string) *wire.FlowsAnswer {
		t.Helper()
		a := served(t, wire.Request{ID: 1, Flows: &wire.FlowsRequest{Protocol: "tcp", Destinations: to}}, args...).Flows
		slices.SortFunc(a.Flows, func(a, b wire.Flow) int { return strings.Compare(a.Source.String(), b.Source.String()) })
		for i := range a.Flows {
			a.Flows[i].TimeoutSeconds = 0
		}
		return a
	}
	got, want := ask(services), ask(services, "--no-bpf")
	if want.Total != 301 || !slices.Equal(want.Chosen, []wire.FlowChoice{wire.ChosenByFilter, wire.ChosenByPort}) {
		t.Errorf("without BPF: %d flows, chosen by %v", want.Total, want.Chosen)
	}
	if !slices.Equal(got.Chosen, []wire.FlowChoice{wire.ChosenByFilter, wire.ChosenInMemory}) {
		t.Errorf("chosen by %v", got.Chosen)
	}
	got.Chosen = want.Chosen
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Errorf("without BPF and with it:\n%s", d)
	}
	if got := ask(nil); got.Chosen != nil {
		t.Errorf("no flows, chosen by %v", got.Chosen)
	}
}
