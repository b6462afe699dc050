package nftables

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// byPolicy is a node with a policy rule by source, whose bare lookups give one answer.
type byPolicy struct {
	answering
	route node.Route
	err   error
	asked *node.FIBQuery
}

func (byPolicy) SourceRules(context.Context, bool) (bool, error) { return true, nil }

func (b byPolicy) FIBLookup(_ context.Context, q node.FIBQuery) (node.Route, error) {
	*b.asked = q
	return b.route, b.err
}

func (byPolicy) Route(context.Context, node.RouteQuery) (node.Route, error) {
	return node.Route{Type: node.RouteUnicast, Out: "eth1"}, nil
}

func TestFibByPolicyIsLookedUpWithTheOtherAddressAsSource(t *testing.T) {
	links := []node.Link{{Name: "eth0", Index: 2}, {Name: "eth1", Index: 3}}
	for name, c := range map[string]struct {
		flags uint32
		route node.Route
		err   error
		want  []string
	}{
		"same way":     {fibSaddr | fibIif | fibMark, node.Route{Type: node.RouteUnicast, Out: "eth0"}, nil, []string{"match drop"}},
		"other way":    {fibSaddr | fibIif, node.Route{Type: node.RouteUnicast, Out: "eth1"}, nil, []string{"no match"}},
		"one of":       {fibSaddr | fibIif, node.Route{Type: node.RouteUnicast, Out: "eth1", Hops: []node.NextHop{{Out: "eth1"}, {Out: "eth0"}}}, nil, []string{"match drop"}},
		"local":        {fibSaddr, node.Route{Type: node.RouteLocal, Out: "eth0"}, nil, []string{"no match"}},
		"no way":       {fibSaddr, node.Route{}, &node.RouteError{Errno: "ENETUNREACH", Number: 101}, []string{"no match"}},
		"chosen":       {fibSaddr, node.Route{Type: node.RouteUnicast, OneOf: []node.NextHop{{Out: "eth1"}, {Out: "eth0"}}}, nil, []string{"no match", "no match"}},
		"not readable": {fibSaddr | fibIif, node.Route{}, errors.New("too many routes"), []string{"no match", "no match"}},
	} {
		p := udpPacket(t)
		p.In, p.Hook, p.Mark = "eth0", skb.Prerouting, 7
		var asked node.FIBQuery
		e := &Evaluator{Env: byPolicy{answering: answering{&fakeEnv{links: links}}, route: c.route, err: c.err, asked: &asked}}
		fib := &Fib{Dest: reg1, Result: fibResultOif, Flags: c.flags}
		var got []string
		for _, w := range run(t, e, newRule(fib, &Cmp{reg1, CmpEqual, host32(2)}, drop()), p) {
			got = append(got, w.Result)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		mark := uint32(0)
		if c.flags&fibMark != 0 {
			mark = 7
		}
		if asked.Dst != p.Src() || asked.Src != p.Dst() || asked.Mark != mark {
			t.Errorf("%s: asked for %+v", name, asked)
		}
	}
}
