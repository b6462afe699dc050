package diagnose_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

const (
	probeVIP = "10.96.0.25:80"
	probeOne = "10.244.1.10:8080"
	probeTwo = "10.244.2.15:8080"
	probePod = "10.244.1.20:40000"
)

// halves is a walk that shares connections over two endpoints, the second one masqueraded.
func halves(verdict trace.Verdict) []trace.Outcome {
	ap := netip.MustParseAddrPort
	return []trace.Outcome{
		{Verdict: verdict, Probability: trace.NewProbability(1, 2), Destination: ap(probeOne), Source: ap("10.244.1.20:0")},
		{Verdict: verdict, Probability: trace.NewProbability(1, 2), Destination: ap(probeTwo), Source: ap("10.250.0.11:0"), Masqueraded: true},
	}
}

func single(verdict trace.Verdict, with string) []trace.Outcome {
	return []trace.Outcome{{Verdict: verdict, RejectWith: with, Probability: trace.NewProbability(1, 1), Destination: netip.MustParseAddrPort(probeVIP), Source: netip.MustParseAddrPort("10.244.1.20:0")}}
}

// went is a connection that conntrack saw go to an endpoint from a source.
func went(to, from string, r wire.ProbeResult) wire.ProbeAttempt {
	ap := netip.MustParseAddrPort
	return wire.ProbeAttempt{
		Source: ap(probePod), Result: r, FinalDestination: ap(to), FinalSource: ap(from), SeenBy: "conntrack",
		Tracked: []trace.Tracked{{Namespace: "host", Source: ap(probePod), Destination: ap(probeVIP), ReplySource: ap(to), ReplyDestination: ap(from)}},
	}
}

func unseen(r wire.ProbeResult) wire.ProbeAttempt {
	return wire.ProbeAttempt{Source: netip.MustParseAddrPort(probePod), Result: r}
}

func findingsOf(protocol string, outcomes []trace.Outcome, attempts ...wire.ProbeAttempt) []string {
	m := &intent.Model{Paths: []intent.AccessPath{{Kind: intent.ClusterIP, Protocol: protocol, Port: 80, Address: netip.MustParseAddr("10.96.0.25")}}}
	w := &survey.Walk{
		Path: m.Paths[0], Client: intent.Client{Kind: intent.FromPod, Node: "n1", Source: netip.MustParseAddr("10.244.1.20"), PodNamespace: "shop", Pod: "client"},
		Destination: netip.MustParseAddrPort(probeVIP), Trace: &trace.Trace{Outcomes: outcomes},
	}
	r := diagnose.Report{Comparisons: []diagnose.Comparison{{Node: "n1", Walk: w}}}
	for _, o := range outcomes {
		if o.Destination != w.Destination && o.Probability != nil {
			r.Comparisons[0].Kernel = append(r.Comparisons[0].Kernel, diagnose.KernelShare{Endpoint: o.Destination, Probability: o.Probability.Rat()})
		}
	}
	r.AddProbes(m, []survey.Probe{{Node: "n1", Walk: w, Answer: &wire.ProbeAnswer{Protocol: protocol, Attempts: attempts}}})
	var out []string
	for _, f := range r.Findings {
		out = append(out, f.ID+" "+f.Subject)
		if f.Sentence == "" || len(f.Evidence) == 0 || f.Severity != diagnose.Error || f.Nodes[0] != "n1" {
			out = append(out, fmt.Sprintf("incomplete %+v", f))
		}
	}
	return out
}

func TestProbesAreHeldAgainstTheWalk(t *testing.T) {
	kept, masq := probePod, "10.250.0.11:40000"
	for name, c := range map[string]struct {
		protocol string
		outcomes []trace.Outcome
		attempts []wire.ProbeAttempt
		want     string
	}{
		"as walked":                      {"tcp", halves(trace.Delivered), []wire.ProbeAttempt{went(probeOne, kept, wire.ProbeConnected), went(probeTwo, masq, wire.ProbeConnected)}, ""},
		"another endpoint":               {"tcp", halves(trace.Delivered), []wire.ProbeAttempt{went("10.9.9.9:1", kept, wire.ProbeConnected)}, "probe-differs 10.9.9.9:1"},
		"not translated":                 {"tcp", halves(trace.Delivered), []wire.ProbeAttempt{went(probeVIP, kept, wire.ProbeTimeout)}, "probe-differs " + probeVIP},
		"a source that ought to be kept": {"tcp", halves(trace.Delivered), []wire.ProbeAttempt{went(probeOne, masq, wire.ProbeConnected)}, "probe-differs source " + probeOne},
		"a source that is kept":          {"tcp", halves(trace.Delivered), []wire.ProbeAttempt{went(probeTwo, kept, wire.ProbeConnected)}, "probe-differs source " + probeTwo},
		"refused at a live endpoint":     {"tcp", halves(trace.Delivered), []wire.ProbeAttempt{went(probeOne, kept, wire.ProbeRefused)}, "probe-differs refused"},
		"lost behind the node":           {"tcp", halves(trace.Forwarded), []wire.ProbeAttempt{went(probeOne, kept, wire.ProbeTimeout)}, "probe-differs timeout"},
		"a silent UDP server":            {"udp", halves(trace.Delivered), []wire.ProbeAttempt{went(probeOne, kept, wire.ProbeTimeout)}, ""},
		"a UDP server that is not there": {"udp", halves(trace.Delivered), []wire.ProbeAttempt{went(probeOne, kept, wire.ProbeRefused)}, "probe-differs refused"},
		"the stack's own answer":         {"tcp", single(trace.Local, ""), []wire.ProbeAttempt{unseen(wire.ProbeRefused)}, ""},
		"rejected as walked":             {"tcp", single(trace.Rejected, "icmp-port-unreachable"), []wire.ProbeAttempt{unseen(wire.ProbeRefused), unseen(wire.ProbeTimeout)}, ""},
		"rejected, but silent":           {"tcp", single(trace.Rejected, "icmp-port-unreachable"), []wire.ProbeAttempt{unseen(wire.ProbeTimeout)}, "probe-differs timeout"},
		"rejected, but connected":        {"tcp", single(trace.Rejected, "tcp-reset"), []wire.ProbeAttempt{went(probeVIP, kept, wire.ProbeConnected)}, "probe-differs connected"},
		"dropped as walked":              {"tcp", single(trace.Dropped, ""), []wire.ProbeAttempt{unseen(wire.ProbeTimeout)}, ""},
		"dropped, but refused":           {"tcp", single(trace.Dropped, ""), []wire.ProbeAttempt{unseen(wire.ProbeRefused)}, "probe-differs refused"},
		"forbidden before it left":       {"udp", single(trace.Dropped, ""), []wire.ProbeAttempt{{Result: wire.ProbeFailed, Errno: "EPERM"}}, ""},
		"not told by the walk":           {"tcp", single(trace.Undetermined, ""), []wire.ProbeAttempt{went("10.9.9.9:1", kept, wire.ProbeTimeout)}, ""},
	} {
		if got := strings.Join(findingsOf(c.protocol, c.outcomes, c.attempts...), ", "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestASpreadThatIsNoChanceIsAFinding(t *testing.T) {
	attempts := func(one, two int) (out []wire.ProbeAttempt) {
		for range one {
			out = append(out, went(probeOne, probePod, wire.ProbeConnected))
		}
		for range two {
			out = append(out, went(probeTwo, "10.250.0.11:40000", wire.ProbeConnected))
		}
		return out
	}
	if got := findingsOf("tcp", halves(trace.Delivered), attempts(24, 16)...); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if got := findingsOf("tcp", halves(trace.Delivered), attempts(40, 0)...); len(got) != 1 || got[0] != "probe-differs spread" {
		t.Errorf("%v", got)
	}
}
