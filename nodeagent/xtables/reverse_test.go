package xtables

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// byPolicy is a node with a policy rule by source, whose bare lookups give one answer.
type byPolicy struct {
	emptyNode
	route node.Route
	err   error
	asked *node.FIBQuery
}

func (byPolicy) SourceRules(context.Context, bool) (bool, error) { return true, nil }

func (b byPolicy) FIBLookup(_ context.Context, q node.FIBQuery) (node.Route, error) {
	*b.asked = q
	return b.route, b.err
}

func TestReversePathByPolicyIsLookedUpWithTheDestinationAsSource(t *testing.T) {
	for name, c := range map[string]struct {
		flags uint8
		route node.Route
		err   error
		want  []bool
	}{
		"same way":     {0, node.Route{Type: node.RouteUnicast, Out: "eth0"}, nil, []bool{true}},
		"other way":    {0, node.Route{Type: node.RouteUnicast, Out: "br0"}, nil, []bool{false}},
		"loose":        {rpLoose, node.Route{Type: node.RouteUnicast, Out: "br0"}, nil, []bool{true}},
		"one of":       {0, node.Route{Type: node.RouteUnicast, Out: "br0", Hops: []node.NextHop{{Out: "br0"}, {Out: "eth0"}}}, nil, []bool{true}},
		"local":        {0, node.Route{Type: node.RouteLocal, Out: "eth0"}, nil, []bool{false}},
		"accept local": {rpAcceptLocal, node.Route{Type: node.RouteLocal, Out: "eth0"}, nil, []bool{true}},
		"no way":       {0, node.Route{}, &node.RouteError{Errno: "ENETUNREACH", Number: 101}, []bool{false}},
		"not readable": {0, node.Route{}, errors.New("too many routes"), []bool{true, false}},
	} {
		p, err := skb.New(skb.UDP, netip.MustParseAddrPort("10.9.0.1:1"), netip.MustParseAddrPort("10.0.0.2:53"))
		if err != nil {
			t.Fatal(err)
		}
		p.In, p.Mark = "eth0", 7
		var asked node.FIBQuery
		branches, err := rule.Enumerate(10, func(ch *rule.Chooser) (bool, error) {
			call := &call{ctx: context.Background(), env: byPolicy{route: c.route, err: c.err, asked: &asked}, family: skb.IPv4, p: p, ch: ch}
			return call.reversePath(c.flags)
		})
		if err != nil || len(branches) != len(c.want) {
			t.Errorf("%s: %+v, %v", name, branches, err)
			continue
		}
		for i, b := range branches {
			if b.Value != c.want[i] {
				t.Errorf("%s: answer %d is %v, want %v", name, i, b.Value, c.want[i])
			}
		}
		if asked.Dst != p.Src() || asked.Src != p.Dst() || asked.Mark != 0 {
			t.Errorf("%s: asked for %+v", name, asked)
		}
	}
}
