package walk

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// eachHop goes on with every next hop that a route may take. The running kernel answers with the one that its hash chooses
// for this very packet; a recording does not have the hash's key, and the walk forks. A choice that was made before for
// the same addresses holds again.
func (w *walk) eachHop(b *branch, r node.Route, next func(*branch, node.Route)) {
	if len(r.OneOf) == 0 {
		next(b, r)
		return
	}
	hops := r.OneOf
	for i, h := range hops {
		one := r
		one.OneOf, one.Out, one.Gateway = nil, h.Out, h.Gateway
		if h.PrefSrc.IsValid() {
			one.PrefSrc = h.PrefSrc
		}
		if i == len(hops)-1 {
			next(b, one)
			return
		}
		words := hopWords(b, h)
		holds, known := b.assumes(words)
		switch {
		case known && holds:
			next(b, one)
			return
		case known:
			continue
		}
		ways := w.fork(b, words)
		next(ways[0], one)
		b = ways[1]
	}
}

// hopWords say what is assumed about the choice of a next hop.
func hopWords(b *branch, h node.NextHop) string {
	via := "dev " + h.Out
	if h.Gateway.IsValid() {
		via = "via " + h.Gateway.String() + " " + via
	}
	return fmt.Sprintf("the route's hash chooses %s for %s -> %s", via, b.p.Src(), b.p.Dst())
}
