package walk

import (
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// queueing are the queueing disciplines that send every packet sooner or later, as long as their queue is not full
// (net/sched). What they have inside is not looked into: the disciplines of classes and of a device's queues, and filters
// that choose a class.
var queueing = []string{
	"bfifo", "cake", "codel", "etf", "ets", "fq", "fq_codel", "fq_pie", "gred", "hhf", "htb", "mq", "mqprio", "multiq", "noqueue", "pfifo",
	"pfifo_fast", "pfifo_head_drop", "pie", "prio", "red", "sfb", "sfq", "taprio", "tbf",
}

// discarding are those that drop every packet.
var discarding = []string{"blackhole", "noop"}

// qdisc is what the queueing discipline of an interface does with packets that leave by it: nil when it only queues them. One
// that may drop them for other reasons (netem, or a class that is missing), or that is not known, is not modelled.
func qdisc(link node.Link) []function {
	what := "queueing discipline " + link.Qdisc + " of " + link.Name
	switch {
	case link.Qdisc == "", slices.Contains(queueing, link.Qdisc):
		return nil
	case slices.Contains(discarding, link.Qdisc):
		return []function{{name: what, run: func(w *walk, b *branch, _ func(*branch)) {
			w.hop(b, trace.Hop{Hook: b.p.Hook.String(), Action: "drop", Says: what + " discards every packet"})
			w.end(b, end{verdict: trace.Dropped, reason: "the " + what + " discards every packet"})
		}}}
	}
	return []function{{name: what, run: func(w *walk, b *branch, next func(*branch)) { w.unmodelled(b, what, next) }}}
}
