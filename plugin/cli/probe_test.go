package cli

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

// answered is a probe whose connections go to the endpoints in turn.
func answered(r wire.ProbeRequest, result wire.ProbeResult, endpoints ...string) *wire.ProbeAnswer {
	source := netip.AddrPortFrom(r.Source, 50000)
	if !r.Source.IsValid() {
		source = netip.MustParseAddrPort("10.250.0.11:50000")
	}
	a := &wire.ProbeAnswer{Protocol: r.Protocol, Destination: r.Destination, Namespace: "host"}
	for i := range r.Count {
		to, from := netip.MustParseAddrPort(endpoints[i%len(endpoints)]), source
		if r.Destination.Port() == 30080 || source.Addr() == to.Addr() {
			from = netip.MustParseAddrPort("10.250.0.11:50000")
		}
		a.Attempts = append(a.Attempts, wire.ProbeAttempt{
			Source: source, Result: result, Micros: int64(300 + i), FinalDestination: to, FinalSource: from, SeenBy: "conntrack",
			Tracked: []trace.Tracked{{Namespace: "host", Source: source, Destination: r.Destination, ReplySource: to, ReplyDestination: from}},
			Events:  []wire.ProbeEvent{{Namespace: "host", Table: "ip kube-proxy", Chain: "services", Handle: 12, Type: "rule", Verdict: "goto service-ULMVA6XW-shop/web/tcp/http"}},
		})
	}
	return a
}

func TestProbeIsShownApartAndSaysThatItSends(t *testing.T) {
	s := newShop()
	asked := make(chan wire.ProbeRequest, 20)
	s.Agents["node1"].Probe = func(r wire.ProbeRequest) *wire.ProbeAnswer {
		asked <- r
		return answered(r, wire.ProbeConnected, "10.244.1.10:8080", "10.244.2.15:8080")
	}
	o, out, errOut := s.options(t)
	o.nodes, o.probe = []string{"node1"}, 20
	if err := o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, render.Human, false) }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(errOut.String(), "probe: sending packets: 20 real connections for each of 4 client and access paths\n") {
		t.Errorf("on standard error: %s", errOut)
	}
	for _, want := range []string{"PROBE  80 real connections", "pod shop/client on node1 -> 10.96.0.25:80", "node1 itself -> 10.96.0.25:80", "20 connected after 300µs to 320µs",
		"10.244.1.10:8080      10 of 20, walk 1/2", "FINDINGS none"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("without %q:\n%s", want, out)
		}
	}
	for line := range strings.SplitSeq(out.String(), "\n") {
		if len([]rune(line)) > 80 {
			t.Errorf("too wide: %s", line)
		}
	}
	close(asked)
	for r := range asked {
		if r.Count != 20 || len(r.Rules) == 0 || r.Source.IsValid() && r.Source.String() != "10.244.1.20" {
			t.Errorf("%+v", r)
		}
	}
}

func TestAProbeThatDiffersIsAnError(t *testing.T) {
	s := newShop()
	s.Agents["node1"].Probe = func(r wire.ProbeRequest) *wire.ProbeAnswer { return answered(r, wire.ProbeTimeout, "10.244.1.10:8080") }
	o, out, _ := s.options(t)
	o.nodes, o.probe = []string{"node1"}, 1
	err := o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, render.Human, false) })
	if codeOf(err) != exitFindings || !strings.Contains(out.String(), "error probe-differs") || !strings.Contains(out.String(), "1 timeout after") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestWithoutProbeNothingIsSent(t *testing.T) {
	s := newShop()
	s.Agents["node1"].Probe = func(wire.ProbeRequest) *wire.ProbeAnswer {
		t.Error("probed")
		return nil
	}
	o, out, errOut := s.options(t)
	o.nodes = []string{"node1"}
	if err := o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, render.JSON, false) }); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "probes") || strings.Contains(errOut.String(), "packets") {
		t.Errorf("%s%s", out, errOut)
	}
}

func TestAnAgentThatCannotProbeIsNamed(t *testing.T) {
	s := newShop() // its agents refuse
	o, out, _ := s.options(t)
	o.nodes, o.probe = []string{"node1"}, 1
	if err := o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, render.Human, false) }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "not probed: nothing was asked") {
		t.Errorf("%s", out)
	}
}
