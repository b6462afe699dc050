package diagnose_test

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

const vip = "10.96.0.25:80"

// out is an outcome of a walk.
func out(verdict trace.Verdict, to string, a, b int64, changes ...func(*trace.Outcome)) trace.Outcome {
	o := trace.Outcome{Verdict: verdict, Destination: netip.MustParseAddrPort(to), Source: netip.MustParseAddrPort("10.244.1.99:40000"), Path: []int{0}}
	if b != 0 {
		o.Probability = trace.NewProbability(a, b)
	}
	for _, c := range changes {
		c(&o)
	}
	return o
}

func masqueraded(o *trace.Outcome)  { o.Masqueraded = true }
func conditional(o *trace.Outcome)  { o.Conditions = []string{"limit 10/second is not exceeded"} }
func notModelled(o *trace.Outcome)  { o.Unknown = []trace.Unknown{{What: "match bpf", Where: "rule 3"}} }
func fromEndpoint(o *trace.Outcome) { o.Source = netip.MustParseAddrPort("10.244.1.2:40000") }

// model is a Service with endpoints on node n1; one that begins with ! is not ready.
func model(eps ...string) *intent.Model {
	m := &intent.Model{
		Namespace: "shop", Name: "web", Type: corev1.ServiceTypeClusterIP, Selector: "app=web",
		Ports: []intent.Port{{Protocol: "tcp", Family: intent.IPv4, Port: 80, Target: "8080"}},
		Paths: []intent.AccessPath{{Kind: intent.ClusterIP, Family: intent.IPv4, Protocol: "tcp", Address: netip.MustParseAddr("10.96.0.25"), Port: 80}},
	}
	for _, a := range eps {
		e := intent.Endpoint{Address: netip.MustParseAddrPort(strings.TrimPrefix(a, "!")), Node: "n1", Pod: "web-" + a}
		e.Ready = !strings.HasPrefix(a, "!")
		e.Serving = e.Ready
		m.Ports[0].Endpoints = append(m.Ports[0].Endpoints, e)
	}
	return m
}

// compare walks the ClusterIP from a pod of node n1 and returns the IDs of the findings.
func compare(m *intent.Model, flows []wire.Flow, outs ...trace.Outcome) (diagnose.Report, []string) {
	return compareChanged(m, flows, func(*survey.Walk) {}, outs...)
}

// compareChanged is compare of a walk that was changed before.
func compareChanged(m *intent.Model, flows []wire.Flow, change func(*survey.Walk), outs ...trace.Outcome) (diagnose.Report, []string) {
	t := trace.New(trace.Packet{Protocol: "tcp", Source: netip.MustParseAddrPort("10.244.1.99:40000"), Destination: netip.MustParseAddrPort(vip)})
	t.Hops = []trace.Hop{{Hook: "prerouting", Table: "ip nat", Chain: "KUBE-SVC-X", Action: "dnat", Rule: &trace.Rule{Handle: 7, Text: "-A KUBE-SVC-X …"}}}
	t.Outcomes = outs
	n := &survey.Node{Node: intent.Node{Name: "n1"}, Flows: flows}
	c := intent.Client{Kind: intent.FromPod, Node: "n1", Source: netip.MustParseAddr("10.244.1.99")}
	n.Walks = []survey.Walk{{Path: m.Paths[0], Client: c, Destination: netip.MustParseAddrPort(vip), Trace: t, Expect: m.Expect(m.Paths[0], c, n.Node, intent.IPTables)}}
	change(&n.Walks[0])
	r := diagnose.Compare(m, []*survey.Node{n}, nil)
	var ids []string
	for _, f := range r.Findings {
		ids = append(ids, f.ID)
	}
	return r, ids
}

func TestEachDifferenceIsItsFindingAndNoOther(t *testing.T) {
	two := []string{"10.244.1.2:8080", "10.244.2.2:8080"}
	tests := map[string]struct {
		endpoints []string
		outs      []trace.Outcome
		want      []string
		result    diagnose.Result
	}{
		"even": {two, []trace.Outcome{out(trace.Forwarded, "10.244.1.2:8080", 1, 2), out(trace.Delivered, "10.244.2.2:8080", 1, 2)}, nil, diagnose.OK},
		"even as iptables rounds it": {append([]string{"10.244.3.2:8080"}, two...), []trace.Outcome{
			out(trace.Forwarded, "10.244.1.2:8080", 715827883, 1<<31), out(trace.Forwarded, "10.244.2.2:8080", 715827882, 1<<31), out(trace.Forwarded, "10.244.3.2:8080", 715827883, 1<<31)}, nil, diagnose.OK},
		"several branches to one endpoint":      {two, []trace.Outcome{out(trace.Forwarded, "10.244.1.2:8080", 1, 4), out(trace.Forwarded, "10.244.1.2:8080", 1, 4), out(trace.Forwarded, "10.244.2.2:8080", 1, 2)}, nil, diagnose.OK},
		"one endpoint missing":                  {two, []trace.Outcome{out(trace.Forwarded, "10.244.1.2:8080", 1, 1)}, []string{"endpoint-missing-in-kernel"}, diagnose.Differs},
		"stale endpoint":                        {two[:1], []trace.Outcome{out(trace.Forwarded, "10.244.1.2:8080", 1, 2), out(trace.Forwarded, "10.244.9.9:8080", 1, 2)}, []string{"endpoint-not-in-api"}, diagnose.Differs},
		"endpoint that is not ready":            {[]string{two[0], "!" + two[1]}, []trace.Outcome{out(trace.Forwarded, "10.244.1.2:8080", 1, 2), out(trace.Forwarded, "10.244.2.2:8080", 1, 2)}, []string{"endpoint-not-eligible"}, diagnose.Differs},
		"uneven":                                {two, []trace.Outcome{out(trace.Forwarded, "10.244.1.2:8080", 1, 3), out(trace.Forwarded, "10.244.2.2:8080", 2, 3)}, []string{"uneven-probability"}, diagnose.Differs},
		"not translated":                        {two, []trace.Outcome{out(trace.Forwarded, vip, 1, 1)}, []string{"no-translation"}, diagnose.Differs},
		"half not translated":                   {two, []trace.Outcome{out(trace.Forwarded, "10.244.1.2:8080", 1, 2), out(trace.Forwarded, vip, 1, 2)}, []string{"endpoint-missing-in-kernel", "no-translation"}, diagnose.Differs},
		"rejected":                              {two, []trace.Outcome{out(trace.Rejected, vip, 1, 1)}, []string{"rejected-though-endpoints"}, diagnose.Differs},
		"dropped":                               {two, []trace.Outcome{out(trace.Dropped, vip, 1, 1)}, []string{"dropped-though-endpoints"}, diagnose.Differs},
		"dropped after translation":             {two, []trace.Outcome{out(trace.Dropped, "10.244.1.2:8080", 1, 2), out(trace.Forwarded, "10.244.2.2:8080", 1, 2)}, []string{"stopped-after-translation"}, diagnose.Differs},
		"dropped on a condition":                {two, []trace.Outcome{out(trace.Forwarded, "10.244.1.2:8080", 1, 2), out(trace.Forwarded, "10.244.2.2:8080", 1, 2), out(trace.Dropped, vip, 0, 0, conditional)}, []string{"dropped-on-condition"}, diagnose.Differs},
		"not understood":                        {two, []trace.Outcome{out(trace.Undetermined, vip, 0, 0, notModelled)}, []string{"undetermined"}, diagnose.Unknown},
		"not understood behind the translation": {two, []trace.Outcome{out(trace.Undetermined, "10.244.1.2:8080", 0, 0, notModelled), out(trace.Undetermined, "10.244.2.2:8080", 0, 0, notModelled)}, []string{"undetermined"}, diagnose.Unknown},
		"no endpoints, rejected":                {nil, []trace.Outcome{out(trace.Rejected, vip, 1, 1)}, []string{"no-ready-endpoints"}, diagnose.OK},
		"no endpoints, dropped":                 {nil, []trace.Outcome{out(trace.Dropped, vip, 1, 1)}, []string{"no-ready-endpoints", "not-rejected"}, diagnose.Differs},
		"no endpoints, still translated":        {nil, []trace.Outcome{out(trace.Forwarded, "10.244.9.9:8080", 1, 1)}, []string{"no-ready-endpoints", "endpoint-not-in-api"}, diagnose.Differs},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, ids := compare(model(tt.endpoints...), nil, tt.outs...)
			if !slices.Equal(ids, tt.want) {
				t.Errorf("findings %v, want %v", ids, tt.want)
			}
			if r.Overall() != tt.result {
				t.Errorf("result %s, want %s", r.Overall(), tt.result)
			}
			for _, f := range r.Findings {
				if f.Sentence == "" || f.Fix == "" || len(f.Places) == 0 {
					t.Errorf("%s lacks its sentence, fix or places: %+v", f.ID, f)
				}
			}
		})
	}
}

func deaf(why string) func(*trace.Outcome) {
	return func(o *trace.Outcome) { o.Reason = why }
}

func TestEndsWhereNobodyListens(t *testing.T) {
	tests := map[string]struct {
		o    trace.Outcome
		want string
		says string
	}{
		"a socket takes it":    {out(trace.Delivered, "10.244.1.2:8080", 1, 1), "", ""},
		"nobody listens":       {out(trace.Local, "10.244.1.2:8080", 1, 1, deaf("no socket listens on tcp port 8080")), "target-port-not-listening", "nobody listens on port 8080"},
		"loopback only":        {out(trace.Local, "10.244.1.2:8080", 1, 1, deaf("a socket listens on 127.0.0.1:8080 only")), "listens-on-loopback-only", "on 127.0.0.1:8080 only"},
		"IPv6 loopback only":   {out(trace.Local, "10.244.1.2:8080", 1, 1, deaf("a socket listens on [::1]:8080 only")), "listens-on-loopback-only", "[::1]:8080"},
		"another address only": {out(trace.Local, "10.244.1.2:8080", 1, 1, deaf("a socket listens on 10.9.9.9:8080 only")), "target-port-not-listening", "on 10.9.9.9:8080 only"},
		"sockets are not seen": {out(trace.Local, "10.244.1.2:8080", 1, 1), "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, ids := compare(model("10.244.1.2:8080"), nil, tt.o)
			if got := strings.Join(ids, " "); got != tt.want {
				t.Fatalf("findings %q, want %q", got, tt.want)
			}
			if tt.want != "" && (!strings.Contains(r.Findings[0].Sentence, tt.says) || r.Findings[0].Severity != diagnose.Error || r.Overall() != diagnose.Differs) {
				t.Errorf("%s: %s", r.Overall(), r.Findings[0].Sentence)
			}
		})
	}
}

func TestRepliesAndStops(t *testing.T) {
	tests := map[string]struct {
		change func(*survey.Walk)
		want   string
		result diagnose.Result
	}{
		"symmetric":    {func(w *survey.Walk) { w.Replies = []journey.Reply{{Return: journey.Symmetric}} }, "", diagnose.OK},
		"asymmetric":   {func(w *survey.Walk) { w.Replies = []journey.Reply{{Return: journey.Asymmetric}} }, "asymmetric-path", diagnose.OK},
		"untranslated": {func(w *survey.Walk) { w.Replies = []journey.Reply{{Return: journey.Untranslated}} }, "reply-not-translated", diagnose.Differs},
		"lost":         {func(w *survey.Walk) { w.Replies = []journey.Reply{{Return: journey.Lost}} }, "reply-dropped", diagnose.Differs},
		"unclear":      {func(w *survey.Walk) { w.Replies = []journey.Reply{{Return: journey.Unclear}} }, "", diagnose.Unknown},
		"untranslated, to a ClusterIP from outside": {func(w *survey.Walk) {
			w.Client.Kind, w.Replies = intent.FromOutside, []journey.Reply{{Return: journey.Untranslated}}
		}, "", diagnose.OK},
		"a node could not be read": {func(w *survey.Walk) { w.Stops = []journey.Stop{{Node: "n2"}} }, "", diagnose.Unknown},
		"a branch was left out":    {func(w *survey.Walk) { w.Stops = []journey.Stop{{Node: "n2", Bounded: true}} }, "", diagnose.OK},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, ids := compareChanged(model("10.244.1.2:8080"), nil, tt.change, out(trace.Delivered, "10.244.1.2:8080", 1, 1))
			if got := strings.Join(ids, " "); got != tt.want || r.Overall() != tt.result {
				t.Errorf("%s, findings %q, want %s, %q", r.Overall(), got, tt.result, tt.want)
			}
		})
	}
}

func TestFlowsAreGroupedByEndpointStateAndTranslation(t *testing.T) {
	m := model("10.244.1.2:8080")
	flow := func(state, to, from string, unreplied bool, seconds int) wire.Flow {
		return wire.Flow{Protocol: "tcp", State: state, Source: netip.MustParseAddrPort("10.244.1.99:4000"), Destination: netip.MustParseAddrPort(vip),
			ReplySource: netip.MustParseAddrPort(to), ReplyDestination: netip.MustParseAddrPort(from), Unreplied: unreplied, TimeoutSeconds: seconds}
	}
	nodes := []*survey.Node{
		{Node: intent.Node{Name: "n1"}, Flows: []wire.Flow{
			flow("ESTABLISHED", "10.244.1.2:8080", "10.244.1.99:4000", false, 10), flow("ESTABLISHED", "10.244.1.2:8080", "10.0.0.1:4000", false, 20),
			flow("SYN_SENT", "10.244.9.9:8080", "10.244.1.99:4000", true, 30),
		}},
		{Node: intent.Node{Name: "n2"}, Flows: []wire.Flow{flow("ESTABLISHED", "10.244.1.2:8080", "10.244.1.99:4000", false, 40), flow("SYN_SENT", vip, "10.244.1.99:4000", true, 5)}},
	}
	var got []string
	for _, g := range diagnose.FlowGroups(m, nodes) {
		got = append(got, fmt.Sprint(g.Endpoint, " ", g.Current, " ", g.State, " ", g.Unreplied, " ", g.NAT(), " ", g.Count, " ", g.ExpiresSeconds, " ", g.Nodes))
	}
	want := []string{
		"10.96.0.25:80 false SYN_SENT true none 1 5 [n2]",
		"10.244.1.2:8080 true ESTABLISHED false dnat 2 40 [n1 n2]",
		"10.244.1.2:8080 true ESTABLISHED false dnat+snat 1 20 [n1]",
		"10.244.9.9:8080 false SYN_SENT true dnat 1 30 [n1]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestInternalPolicyLocalWithoutLocalEndpointDropsAsAsked(t *testing.T) {
	m := model("10.244.2.2:8080")
	m.InternalLocal, m.Ports[0].Endpoints[0].Node = true, "n2"
	r, ids := compare(m, nil, out(trace.Dropped, vip, 1, 1))
	if r.Overall() != diagnose.OK || !slices.Equal(ids, []string{"no-local-endpoints"}) {
		t.Errorf("result %s, findings %v", r.Overall(), ids)
	}
	if r, ids = compare(m, nil, out(trace.Forwarded, "10.244.2.2:8080", 1, 1)); r.Overall() != diagnose.Differs || !slices.Equal(ids, []string{"endpoint-not-eligible"}) {
		t.Errorf("result %s, findings %v", r.Overall(), ids)
	}
}

func TestClientKeptByAffinityIsNoMissingEndpoint(t *testing.T) {
	m := model("10.244.1.2:8080", "10.244.2.2:8080")
	m.Affinity = 1
	if _, ids := compare(m, nil, out(trace.Forwarded, "10.244.1.2:8080", 1, 1)); len(ids) != 0 {
		t.Errorf("findings %v", ids)
	}
}

func TestMasquerade(t *testing.T) {
	m := model("10.244.1.2:8080")
	m.Paths[0].Kind, m.Paths[0].Port = intent.ExternalIP, 80
	if _, ids := compare(m, nil, out(trace.Forwarded, "10.244.1.2:8080", 1, 1)); !slices.Equal(ids, []string{"not-masqueraded"}) {
		t.Errorf("policy Cluster: %v", ids)
	}
	if _, ids := compare(m, nil, out(trace.Local, "10.244.1.2:8080", 1, 1)); len(ids) != 0 {
		t.Errorf("an endpoint in the node's own stack: %v", ids)
	}
	m.ExternalLocal = true
	if _, ids := compare(m, nil, out(trace.Forwarded, "10.244.1.2:8080", 1, 1, masqueraded)); !slices.Equal(ids, []string{"source-lost"}) {
		t.Errorf("policy Local: %v", ids)
	}
}

func TestFlows(t *testing.T) {
	flow := func(proto, state, to string) wire.Flow {
		return wire.Flow{Protocol: proto, State: state, Source: netip.MustParseAddrPort("10.244.1.99:4000"), Destination: netip.MustParseAddrPort(vip), ReplySource: netip.MustParseAddrPort(to)}
	}
	tests := map[string]struct {
		flow     wire.Flow
		want     string
		severity diagnose.Severity
	}{
		"to an endpoint":           {flow("tcp", "ESTABLISHED", "10.244.1.2:8080"), "", ""},
		"to one that is not ready": {flow("tcp", "ESTABLISHED", "10.244.1.3:8080"), "", ""},
		"to a gone endpoint":       {flow("tcp", "ESTABLISHED", "10.244.9.9:8080"), "stale-tcp-conntrack", diagnose.Warning},
		"closing":                  {flow("tcp", "TIME_WAIT", "10.244.9.9:8080"), "", ""},
		"untranslated":             {flow("tcp", "SYN_SENT", vip), "flow-untranslated", diagnose.Warning},
		"UDP does not heal":        {flow("udp", "", "10.244.9.9:8080"), "stale-udp-conntrack", diagnose.Error},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := model("10.244.1.2:8080", "!10.244.1.3:8080")
			m.Ports[0].Protocol, m.Paths[0].Protocol = tt.flow.Protocol, tt.flow.Protocol
			r, ids := compare(m, []wire.Flow{tt.flow}, out(trace.Forwarded, "10.244.1.2:8080", 1, 1))
			if got := strings.Join(ids, " "); got != tt.want {
				t.Errorf("findings %q, want %q", got, tt.want)
			}
			if len(r.Findings) > 0 && (r.Findings[0].Severity != tt.severity || len(r.Findings[0].Evidence) == 0) {
				t.Errorf("%+v", r.Findings[0])
			}
		})
	}
}

func TestSameFindingOnSeveralNodesIsOne(t *testing.T) {
	m := model("10.244.1.2:8080")
	var nodes []*survey.Node
	for _, name := range []string{"n1", "n2"} {
		tr := trace.New(trace.Packet{Destination: netip.MustParseAddrPort(vip)})
		tr.Outcomes = []trace.Outcome{out(trace.Forwarded, vip, 1, 1, fromEndpoint)}
		c := intent.Client{Kind: intent.FromPod, Node: name, Source: netip.MustParseAddr("10.244.1.99")}
		nodes = append(nodes, &survey.Node{Node: intent.Node{Name: name}, Walks: []survey.Walk{{
			Path: m.Paths[0], Client: c, Destination: netip.MustParseAddrPort(vip), Trace: tr, Expect: m.Expect(m.Paths[0], c, intent.Node{Name: name}, intent.IPTables)}}})
	}
	r := diagnose.Compare(m, nodes, nil)
	if len(r.Findings) != 1 || !slices.Equal(r.Findings[0].Nodes, []string{"n1", "n2"}) || len(r.Comparisons) != 2 {
		t.Errorf("%+v", r.Findings)
	}
}

func TestCatalogueIDsAreUniqueAndComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range diagnose.Catalogue() {
		if seen[k.ID] || k.Title == "" || k.Means == "" || k.Proven == "" || k.Fix == "" || k.Severity == "" || strings.ToLower(k.ID) != k.ID {
			t.Errorf("%+v", k)
		}
		seen[k.ID] = true
	}
}

func TestFraction(t *testing.T) {
	for want, p := range map[string]*big.Rat{
		"1": big.NewRat(1, 1), "1/3": big.NewRat(715827883, 1<<31), "2/3": big.NewRat(2, 3), "1/1000": big.NewRat(2147484, 1<<31), "?": nil,
	} {
		if got := diagnose.Fraction(p); got != want {
			t.Errorf("%v: %s, want %s", p, got, want)
		}
	}
}
