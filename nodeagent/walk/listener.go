package walk

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// listener describes the socket that takes a packet, and how full it is. Of several that share the address
// (SO_REUSEPORT), among which the kernel chooses, it describes the one with the fullest queue. What the packet would find
// there now is told and decides nothing: the program may fetch from the queue at any time.
func (w *walk) listener(b *branch, socks []node.Socket) (*trace.Listener, error) {
	worst := socks[0]
	l := &trace.Listener{Address: worst.Local}
	for _, s := range socks {
		if s.Local != socks[0].Local {
			continue
		}
		l.Sockets++
		l.Drops += uint64(s.Drops)
		if s.Full() && !worst.Full() || s.Full() == worst.Full() && s.Queue > worst.Queue {
			worst = s
		}
	}
	l.Queue, l.QueueMax, l.Full = worst.Queue, worst.QueueMax, worst.Full()
	if b.p.Proto() == skb.TCP {
		c, err := w.ns.ListenCounters(w.ctx)
		if err != nil {
			return nil, err
		}
		l.NamespaceOverflows, l.NamespaceDrops = c.Overflows, c.Drops
		if c.Overflows == 0 {
			// A listener's own counter also has what was no connection at all: a reset, a segment that came late.
			l.Drops = 0
		}
	}
	w.queueHops(b, l)
	return l, nil
}

// queueHops writes down what is not as it should be at a socket.
func (w *walk) queueHops(b *branch, l *trace.Listener) {
	tcp := b.p.Proto() == skb.TCP
	if l.Full {
		says := fmt.Sprintf("%d bytes wait for the program, and the socket takes %d: what arrives is dropped", l.Queue, l.QueueMax)
		if tcp {
			says = fmt.Sprintf("%d connections wait to be accepted, one more than its backlog of %d: new ones are dropped until the program accepts", l.Queue, l.QueueMax)
		}
		w.hop(b, trace.Hop{Hook: "socket", Action: fmt.Sprintf("the queue of %s is full", l.Address), Says: says})
	}
	if l.Drops == 0 && l.NamespaceOverflows == 0 && l.NamespaceDrops == 0 {
		return
	}
	says := fmt.Sprintf("%d packets by the socket since it was opened", l.Drops)
	if tcp {
		says += fmt.Sprintf("; in the namespace %d connections because a queue was full (ListenOverflows), %d for any reason (ListenDrops)", l.NamespaceOverflows, l.NamespaceDrops)
	}
	w.hop(b, trace.Hop{Hook: "socket", Action: "has dropped before", Says: says})
}
