package journey_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
)

// Node N of these tests has 10.0.0.N, and its pods are in 10.244.N.0/24.
const (
	vip    = "10.96.0.25:80"
	client = "10.244.1.20"
	near   = "10.244.1.2:8080"
	far    = "10.244.2.2:8080"
)

// land is a cluster of agents whose answers are given by node, and the requests they got.
type land struct {
	answers map[string]func(wire.WalkRequest) *trace.Trace
	refuse  map[string]error

	mu    sync.Mutex
	asked []wire.WalkRequest
}

func (l *land) On(_ context.Context, node string) (journey.Agent, error) {
	if err := l.refuse[node]; err != nil {
		return nil, err
	}
	return agent{l, node}, nil
}

type agent struct {
	land *land
	node string
}

func (a agent) Hello() *wire.Hello { return nil }

func (a agent) Ask(_ context.Context, r wire.Request) (*wire.Answer, error) {
	a.land.mu.Lock()
	a.land.asked = append(a.land.asked, *r.Walk)
	a.land.mu.Unlock()
	t := a.land.answers[a.node](*r.Walk)
	if t == nil {
		return &wire.Answer{Error: &wire.Error{Code: wire.CodePermission, Message: "may not read"}, Micros: 1}, nil
	}
	return &wire.Answer{Walk: t, Micros: 1}, nil
}

func (l *land) askedOn(node string, reply bool) []wire.WalkRequest {
	var out []wire.WalkRequest
	for _, r := range l.asked {
		if r.Node == node && r.Reply == reply {
			out = append(out, r)
		}
	}
	return out
}

func cluster() *intent.Model {
	m := &intent.Model{Ports: []intent.Port{{Protocol: "tcp", Family: intent.IPv4}}}
	for i := 1; i <= 3; i++ {
		m.Nodes = append(m.Nodes, intent.Node{
			Name: fmt.Sprintf("n%d", i), Ready: true, Internal: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", i))},
			PodRanges: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i))},
		})
	}
	return m
}

// out is an outcome with a hop in the node's network and one of its own in a namespace. In "pod a", the client's, it has
// that one only.
func out(t *trace.Trace, node, namespace string, v trace.Verdict, to string, changes ...func(*trace.Outcome)) {
	t.Hops = append(t.Hops, trace.Hop{Node: node, Namespace: namespace, Hook: "route", Action: "to " + to})
	o := trace.Outcome{
		Verdict: v, Destination: netip.MustParseAddrPort(to), Source: t.Packet.Source, Probability: trace.NewProbability(1, 1),
		Conditions: []string{}, Path: []int{len(t.Hops) - 1},
	}
	if namespace != "pod a" {
		t.Hops = append(t.Hops, trace.Hop{Node: node, Namespace: "host", Hook: "prerouting"})
		o.Path = []int{len(t.Hops) - 1, len(t.Hops) - 2}
	}
	for _, c := range changes {
		c(&o)
	}
	t.Outcomes = append(t.Outcomes, o)
}

func begin(r wire.WalkRequest) *trace.Trace {
	return trace.New(trace.Packet{Protocol: r.Protocol, Source: r.Source, Destination: r.Destination, In: r.In})
}

func share(a, b int64) func(*trace.Outcome) {
	return func(o *trace.Outcome) { o.Probability = trace.NewProbability(a, b) }
}

func from(s string) func(*trace.Outcome) {
	return func(o *trace.Outcome) { o.Source = netip.MustParseAddrPort(s) }
}

func via(hop string) func(*trace.Outcome) {
	return func(o *trace.Outcome) { o.Out, o.NextHop = "eth0", netip.MustParseAddr(hop) }
}

func entry(e trace.Tracked) func(*trace.Outcome) {
	return func(o *trace.Outcome) { o.Tracked = append(o.Tracked, e) }
}

var translated = trace.Tracked{
	Namespace: "host", Source: netip.MustParseAddrPort(client + ":0"), Destination: netip.MustParseAddrPort(vip),
	ReplySource: netip.MustParseAddrPort(far), ReplyDestination: netip.MustParseAddrPort(client + ":0"),
}

// healthy is a land where n1 translates a third to each of three far branches, n2 delivers half of what it gets to a
// socket, and the reply is translated back on n1.
func healthy() *land {
	return &land{refuse: map[string]error{}, answers: map[string]func(wire.WalkRequest) *trace.Trace{
		"n1": func(r wire.WalkRequest) *trace.Trace {
			t := begin(r)
			if r.Reply {
				out(t, "n1", "pod a", trace.Local, client+":0", from(vip))
				return t
			}
			out(t, "n1", "pod b", trace.Delivered, near, share(1, 3))
			out(t, "n1", "host", trace.Forwarded, far, share(2, 3), via("10.0.0.2"), entry(translated))
			return t
		},
		"n2": func(r wire.WalkRequest) *trace.Trace {
			t := begin(r)
			if r.Reply {
				out(t, "n2", "host", trace.Forwarded, client+":0", via("10.0.0.1"))
				return t
			}
			out(t, "n2", "pod c", trace.Delivered, far, share(1, 2), entry(trace.Tracked{Namespace: "host", Key: "c"}))
			out(t, "n2", "host", trace.Dropped, far, share(1, 2), func(o *trace.Outcome) { o.Reason = "a rule drops it" })
			return t
		},
	}}
}

func start() journey.Start {
	return journey.Start{
		Client:   intent.Client{Kind: intent.FromPod, Node: "n1", Source: netip.MustParseAddr(client), PodNamespace: "shop", Pod: "client"},
		Protocol: "tcp", Destination: netip.MustParseAddrPort(vip),
	}
}

func follow(t *testing.T, l *land, s journey.Start) *journey.Journey {
	t.Helper()
	j, err := journey.NewGuide(cluster(), l).Follow(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func ends(t *trace.Trace) []string {
	var s []string
	for _, o := range t.Outcomes {
		p := "?"
		if o.Probability != nil {
			p = o.Probability.String()
		}
		var nodes []string
		for _, i := range o.Path {
			nodes = append(nodes, t.Hops[i].Node)
		}
		s = append(s, fmt.Sprintf("%s %s %s by %s", p, o.Verdict, o.Destination, strings.Join(slices.Compact(nodes), " ")))
	}
	return s
}

func TestSharesMultiplyOverNodes(t *testing.T) {
	l := healthy()
	j := follow(t, l, start())
	want := []string{"1/3 delivered " + near + " by n1", "1/3 delivered " + far + " by n1 n2", "1/3 dropped " + far + " by n1 n2"}
	if d := cmp.Diff(want, ends(j.Trace)); d != "" {
		t.Error(d)
	}
	first, onward := l.askedOn("n1", false), l.askedOn("n2", false)
	if len(first) != 1 || !first[0].FromAddress || !first[0].Follow || len(onward) != 1 {
		t.Fatalf("asked on n1 %+v, on n2 %+v", first, onward)
	}
	if r := onward[0]; r.Arrives.String() != "10.0.0.2" || r.FromAddress || r.Source.String() != client+":0" || r.Destination.String() != far {
		t.Errorf("asked on n2 %+v", r)
	}
}

func TestConditionOnOneNodeLeavesNoShareOnTheNext(t *testing.T) {
	l := healthy()
	n1 := l.answers["n1"]
	l.answers["n1"] = func(r wire.WalkRequest) *trace.Trace {
		tr := n1(r)
		if !r.Reply {
			tr.Outcomes[1].Probability, tr.Outcomes[1].Conditions = nil, []string{"a limit is not exceeded"}
		}
		return tr
	}
	o := follow(t, l, start()).Trace.Outcomes[1]
	if o.Probability != nil || !slices.Equal(o.Conditions, []string{"a limit is not exceeded"}) {
		t.Errorf("%+v", o)
	}
}

func TestRepliesMeetTheEntriesOfTheWayThere(t *testing.T) {
	l := healthy()
	j := follow(t, l, start())
	if len(j.Replies) != 2 {
		t.Fatalf("%+v", j.Replies)
	}
	r := j.Replies[1]
	if r.Outcome != 1 || r.Return != journey.Symmetric || !slices.Equal(r.Undone, []string{"n1"}) {
		t.Errorf("%+v", r)
	}
	back := l.askedOn("n2", true)
	if len(back) != 1 || !back[0].FromAddress || back[0].Source.String() != far || back[0].Destination.String() != client+":0" {
		t.Fatalf("asked on n2 %+v", back)
	}
	if len(back[0].Assume) != 1 || back[0].Assume[0].Key != "c" || back[0].Assume[0].Node != "n2" {
		t.Errorf("assumed on n2 %+v", back[0].Assume)
	}
	var home []wire.WalkRequest
	for _, r := range l.askedOn("n1", true) {
		if !r.FromAddress {
			home = append(home, r)
		}
	}
	if len(home) != 1 || len(home[0].Assume) != 1 || home[0].Assume[0].ReplySource.String() != far {
		t.Errorf("asked on n1 %+v", home)
	}
}

func TestReturnOfTheReply(t *testing.T) {
	outside := func(s *journey.Start) {
		s.Client = intent.Client{Kind: intent.FromOutside, Node: "n1", Source: netip.MustParseAddr("192.0.2.1")}
		s.In = "eth0"
	}
	tests := map[string]struct {
		start func(*journey.Start)
		n1    func(*trace.Trace)
		n2    func(*trace.Trace)
		want  journey.Return
		says  string
	}{
		"symmetric": {want: journey.Symmetric},
		"dropped on its node": {n2: func(t *trace.Trace) {
			out(t, "n2", "host", trace.Dropped, client+":0", func(o *trace.Outcome) { o.Reason = "rp_filter" })
		}, want: journey.Lost, says: "dropped on n2: rp_filter"},
		"rejected on the way": {n1: func(t *trace.Trace) { out(t, "n1", "host", trace.Rejected, client+":0") }, want: journey.Lost, says: "rejected on n1"},
		"not translated":      {n1: func(t *trace.Trace) { out(t, "n1", "pod a", trace.Local, client+":0", from(far)) }, want: journey.Untranslated, says: "comes from " + far},
		"to somebody else":    {n1: func(t *trace.Trace) { out(t, "n1", "host", trace.Local, "10.0.0.1:0", from(vip)) }, want: journey.Lost, says: "goes to 10.0.0.1"},
		"leaves the cluster":  {n2: func(t *trace.Trace) { out(t, "n2", "host", trace.Forwarded, "192.0.2.9:0") }, want: journey.Lost, says: "192.0.2.9"},
		"not understood": {n1: func(t *trace.Trace) {
			out(t, "n1", "host", trace.Undetermined, client+":0", func(o *trace.Outcome) { o.Unknown = []trace.Unknown{{What: "match bpf"}} })
		}, want: journey.Unclear, says: "match bpf"},
		"by another node": {n2: func(t *trace.Trace) { out(t, "n2", "host", trace.Forwarded, client+":0", via("10.0.0.3")) }, want: journey.Asymmetric, says: "n2, n3, n1"},
		"outside, symmetric": {start: outside, n1: func(t *trace.Trace) {
			out(t, "n1", "host", trace.Forwarded, "192.0.2.1:0", from(vip), func(o *trace.Outcome) { o.Out = "eth0" })
		}, want: journey.Symmetric},
		"outside, other way out": {start: outside, n1: func(t *trace.Trace) {
			out(t, "n1", "host", trace.Forwarded, "192.0.2.1:0", from(vip), func(o *trace.Outcome) { o.Out = "eth1" })
		}, want: journey.Asymmetric, says: "by eth1"},
		"outside, past the entry": {start: outside, n2: func(t *trace.Trace) {
			out(t, "n2", "host", trace.Forwarded, "192.0.2.1:0", func(o *trace.Outcome) { o.Out = "eth0" })
		}, want: journey.Untranslated, says: "had asked " + vip},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := healthy()
			for node, change := range map[string]func(*trace.Trace){"n1": tt.n1, "n2": tt.n2} {
				before := l.answers[node]
				l.answers[node] = func(r wire.WalkRequest) *trace.Trace {
					if !r.Reply || change == nil || r.FromAddress && node == "n1" {
						return before(r)
					}
					tr := begin(r)
					change(tr)
					return tr
				}
			}
			l.answers["n3"] = func(r wire.WalkRequest) *trace.Trace {
				tr := begin(r)
				out(tr, "n3", "host", trace.Forwarded, client+":0", via("10.0.0.1"))
				return tr
			}
			s := start()
			if tt.start != nil {
				tt.start(&s)
			}
			r := follow(t, l, s).Replies[1]
			if r.Return != tt.want || !strings.Contains(r.Why, tt.says) || (r.Why == "") != (tt.want == journey.Symmetric) {
				t.Errorf("%s: %s", r.Return, r.Why)
			}
		})
	}
}

func TestNothingIsGuessedAboutANodeThatCannotBeRead(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*land)
		says    string
		bounded bool
	}{
		"no agent":      {func(l *land) { l.refuse["n2"] = errors.New("the image is not there") }, "the image is not there", false},
		"may not read":  {func(l *land) { l.answers["n2"] = func(wire.WalkRequest) *trace.Trace { return nil } }, "may not read", false},
		"limit reached": {func(l *land) { l.refuse["n2"] = journey.ErrLimit }, "--max-nodes", true},
	} {
		t.Run(name, func(t *testing.T) {
			l := healthy()
			tt.change(l)
			j := follow(t, l, start())
			want := []string{"1/3 delivered " + near + " by n1", "2/3 forwarded " + far + " by n1"}
			if d := cmp.Diff(want, ends(j.Trace)); d != "" {
				t.Error(d)
			}
			if len(j.Stops) != 1 || j.Stops[0].Outcome != 1 || j.Stops[0].Node != "n2" || j.Stops[0].Bounded != tt.bounded || !strings.Contains(j.Stops[0].Why, tt.says) {
				t.Errorf("%+v", j.Stops)
			}
		})
	}
}

func TestClientNodeWithoutAgentFailsAndOneThatCannotWalkSaysSo(t *testing.T) {
	l := healthy()
	l.refuse["n1"] = errors.New("gone")
	if _, err := journey.NewGuide(cluster(), l).Follow(t.Context(), start()); err == nil || err.Error() != "gone" {
		t.Errorf("got %v", err)
	}
	l = healthy()
	l.answers["n1"] = func(wire.WalkRequest) *trace.Trace { return nil }
	if j := follow(t, l, start()); j.Error == nil || j.Trace != nil {
		t.Errorf("got %+v", j)
	}
}

func TestCrossing(t *testing.T) {
	tests := map[string]struct {
		to     string
		change func(*trace.Outcome)
		node   string
		at     string
	}{
		"by the next hop":    {far, via("10.0.0.3"), "n3", "10.0.0.3"},
		"to the node itself": {"10.0.0.2:8080", func(o *trace.Outcome) { o.Out = "eth0" }, "n2", "10.0.0.2"},
		"by a router":        {far, via("10.9.9.9"), "n2", "10.0.0.2"},
		"in a tunnel": {"10.244.3.3:8080", func(o *trace.Outcome) {
			o.Tunnel = &trace.Tunnel{Kind: "vxlan", Destination: netip.MustParseAddrPort("10.0.0.2:8472")}
		}, "n2", "10.0.0.2"},
		"in a tunnel to nowhere": {far, func(o *trace.Outcome) {
			o.Tunnel = &trace.Tunnel{Kind: "vxlan", Destination: netip.MustParseAddrPort("203.0.113.1:8472")}
		}, "", ""},
		"out of the cluster":        {"203.0.113.1:80", via("10.9.9.9"), "", ""},
		"to a pod that is not here": {"10.244.1.77:80", func(o *trace.Outcome) { o.Out = "cni0" }, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := &land{answers: map[string]func(wire.WalkRequest) *trace.Trace{"n1": func(r wire.WalkRequest) *trace.Trace {
				tr := begin(r)
				out(tr, "n1", "host", trace.Forwarded, tt.to, tt.change)
				return tr
			}}}
			for _, n := range []string{"n2", "n3"} {
				l.answers[n] = func(r wire.WalkRequest) *trace.Trace {
					tr := begin(r)
					out(tr, n, "host", trace.Dropped, tt.to)
					return tr
				}
			}
			follow(t, l, start())
			if tt.node == "" {
				if len(l.asked) != 1 {
					t.Errorf("asked %+v", l.asked[1:])
				}
				return
			}
			if len(l.asked) != 2 || l.asked[1].Node != tt.node || l.asked[1].Arrives.String() != tt.at {
				t.Fatalf("asked %+v", l.asked)
			}
			if tt.change(&trace.Outcome{}); name == "in a tunnel" && l.asked[1].Tunnel == nil {
				t.Error("the tunnel is not passed on")
			}
		})
	}
}

func TestPacketThatGoesRoundBetweenNodesIsGivenUp(t *testing.T) {
	l := &land{answers: map[string]func(wire.WalkRequest) *trace.Trace{}}
	for n, next := range map[string]string{"n1": "10.0.0.2", "n2": "10.0.0.1"} {
		l.answers[n] = func(r wire.WalkRequest) *trace.Trace {
			tr := begin(r)
			tr.Packet.Source = netip.AddrPortFrom(r.Source.Addr(), r.Source.Port()+1) // each round differs
			out(tr, n, "host", trace.Forwarded, far, via(next))
			return tr
		}
	}
	j := follow(t, l, start())
	if len(j.Stops) != 1 || !strings.Contains(j.Stops[0].Why, "round") {
		t.Errorf("%+v", j.Stops)
	}
}

func TestVeryManyBranchesAreBoundedEvenlyOverNodes(t *testing.T) {
	l := &land{answers: map[string]func(wire.WalkRequest) *trace.Trace{}}
	l.answers["n1"] = func(r wire.WalkRequest) *trace.Trace {
		tr := begin(r)
		if r.Reply {
			out(tr, "n1", "pod a", trace.Local, client+":0", from(vip))
			return tr
		}
		for i := range 200 {
			out(tr, "n1", "host", trace.Forwarded, fmt.Sprintf("10.244.%d.%d:8080", 2+i%2, 1+i/2), share(1, 200))
		}
		return tr
	}
	for _, n := range []string{"n2", "n3"} {
		l.answers[n] = func(r wire.WalkRequest) *trace.Trace {
			tr := begin(r)
			if r.Reply {
				out(tr, n, "host", trace.Forwarded, client+":0", via("10.0.0.1"))
				return tr
			}
			out(tr, n, "pod", trace.Delivered, r.Destination.String())
			return tr
		}
	}
	j := follow(t, l, start())
	if a, b := len(l.askedOn("n2", false)), len(l.askedOn("n3", false)); a != 32 || b != 32 || len(j.Stops) != 136 {
		t.Errorf("asked %d and %d, %d stops", a, b, len(j.Stops))
	}
	// One reply stands for all from a node.
	if len(j.Replies) != 2 || len(j.Replies[0].Same) != 31 || len(j.Trace.Outcomes) != 200 {
		t.Errorf("%d replies, %d outcomes", len(j.Replies), len(j.Trace.Outcomes))
	}
}

func TestSamePacketIsAskedOnce(t *testing.T) {
	l := healthy()
	g := journey.NewGuide(cluster(), l)
	for range 2 {
		if _, err := g.Follow(t.Context(), start()); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.asked) != 5 { // n1, n2, and the replies of two ends, one of them on two nodes
		t.Errorf("asked %d times", len(l.asked))
	}
	if d := cmp.Diff([]string{"n1", "n2"}, g.Visited()); d != "" || g.Micros("n2") != 2 {
		t.Errorf("visited %v, worked %d on n2", g.Visited(), g.Micros("n2"))
	}
}

func TestSidecarOfTheClientTakesThePacket(t *testing.T) {
	l := &land{answers: map[string]func(wire.WalkRequest) *trace.Trace{"n1": func(r wire.WalkRequest) *trace.Trace {
		tr := begin(r)
		out(tr, "n1", "pod a", trace.Delivered, "127.0.0.1:15001")
		return tr
	}}}
	j := follow(t, l, start())
	if !journey.TakenBySidecar(start().Client, j.Trace, &j.Trace.Outcomes[0]) || len(j.Replies) != 0 {
		t.Errorf("replies %+v", j.Replies)
	}
	// A pod that meets itself by way of the node is no sidecar.
	h := follow(t, healthy(), start())
	if journey.TakenBySidecar(start().Client, h.Trace, &h.Trace.Outcomes[1]) {
		t.Error("a packet that leaves the node counts as taken by a sidecar")
	}
}

func TestReplyToAnAddressOutsideThatIsAPodsEndsThere(t *testing.T) {
	l := &land{answers: map[string]func(wire.WalkRequest) *trace.Trace{}}
	l.answers["n1"] = func(r wire.WalkRequest) *trace.Trace {
		tr := begin(r)
		if r.Reply {
			out(tr, "n1", "host", trace.Forwarded, client+":0", from(vip), via("10.0.0.2"))
			return tr
		}
		out(tr, "n1", "pod web", trace.Delivered, "10.244.1.77:8080")
		return tr
	}
	l.answers["n2"] = func(r wire.WalkRequest) *trace.Trace {
		tr := begin(r)
		out(tr, "n2", "pod client", trace.Local, client+":0", from(vip))
		return tr
	}
	s := start()
	s.Client = intent.Client{Kind: intent.FromOutside, Node: "n1", Source: s.Client.Source}
	j := follow(t, l, s)
	if len(j.Replies) != 1 || j.Replies[0].Return != journey.Symmetric {
		t.Errorf("%+v", j.Replies)
	}
}
