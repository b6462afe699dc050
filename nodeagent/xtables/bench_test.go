//go:build linux

package xtables_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt/xtlab"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// BenchmarkLongChain passes a chain of 10,000 rules of which none matches, as KUBE-SERVICES is.
func BenchmarkLongChain(b *testing.B) {
	l := xtlab.New(b)
	lines := []string{":KUBE-SERVICES - [0:0]"}
	for i := range 10000 {
		lines = append(lines, fmt.Sprintf(`-A KUBE-SERVICES -d 10.%d.%d.%d/32 -p tcp -m comment --comment "ns/svc cluster IP" -m tcp --dport 80 -j ACCEPT`, 97+i/65536, i/256%256, i%256))
	}
	l.Restore(skb.IPv4, "nat", lines...)
	tab := l.Table(skb.IPv4, "nat")
	start := xtlab.Rules(b, tab)[0].Offset
	p, err := skb.New(skb.TCP, ap("10.0.0.1:1"), ap("10.96.0.1:80"))
	if err != nil {
		b.Fatal(err)
	}
	e := &xtables.Evaluator{}
	b.ReportAllocs()
	for b.Loop() {
		_, err := rule.Enumerate(2, func(ch *rule.Chooser) (bool, error) {
			r, err := tab.Rule(start)
			for n := 0; err == nil && !r.ChainEnd; n++ {
				if res, err := e.EvalRule(context.Background(), tab, r, p, ch); err != nil || res.Matched {
					return false, fmt.Errorf("rule %d: %v", n, err)
				}
				r, err = tab.Next(r)
			}
			return true, err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
