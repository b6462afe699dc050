package walk

import (
	"context"
	"math/big"
	"net/netip"
	"slices"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// passTwice passes a packet through two functions whose order is not known, and then what a tunnel makes of it through the
// same two, in a namespace. It returns the orders in which the functions ran.
func passTwice(t *testing.T, first, second string) []string {
	t.Helper()
	j := &journey{ctx: context.Background(), trace: trace.New(trace.Packet{})}
	ran := func(name string) function {
		return function{name: name, run: func(_ *walk, b *branch, next func(*branch)) {
			c := b.clone()
			c.p.Out += name
			next(c)
		}}
	}
	sequences := func() []sequence {
		return []sequence{{"a", []function{ran("a")}}, {"b", []function{ran("b")}}}
	}
	p, err := skb.New(skb.TCP, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"))
	if err != nil {
		t.Fatal(err)
	}
	p.Hook = skb.Output
	var out []string
	here, there := &walk{journey: j, id: first, label: first}, &walk{journey: j, id: second, label: second}
	here.interleave(&branch{p: p, prob: big.NewRat(1, 1)}, sequences(), func(b *branch) {
		there.interleave(b, sequences(), func(b *branch) { out = append(out, b.p.Out) })
	})
	slices.Sort(out)
	return out
}

func TestOrderThatIsNotKnownIsTheSameForTheOuterPacket(t *testing.T) {
	if got := passTwice(t, "", ""); !slices.Equal(got, []string{"abab", "baba"}) {
		t.Errorf("the functions ran as %v", got)
	}
}

func TestOrderThatIsNotKnownMayDifferBetweenNamespaces(t *testing.T) {
	if got := passTwice(t, "", "pod"); len(got) != 4 {
		t.Errorf("the functions ran as %v", got)
	}
}
