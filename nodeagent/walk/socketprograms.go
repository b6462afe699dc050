package walk

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

type socketKey struct {
	do     node.SocketDoes
	family skb.Family
	proto  uint8
}

// socketPrograms passes the BPF programs of control groups that a socket here meets. They may refuse what it does, or name
// another destination (Cilium's load balancer for sockets does); none of them is modelled.
func (w *walk) socketPrograms(b *branch, do node.SocketDoes, next func(*branch)) {
	k := socketKey{do, b.p.Family, b.p.Proto()}
	names, known := w.sockets[k]
	if !known {
		var err error
		if names, err = w.ns.SocketPrograms(w.ctx, do, k.family, k.proto); err != nil {
			w.fail(err)
			return
		}
		if w.sockets == nil {
			w.sockets = map[socketKey][]string{}
		}
		w.sockets[k] = names
	}
	var from func(i int, b *branch)
	from = func(i int, b *branch) {
		if i == len(names) {
			next(b)
			return
		}
		w.unmodelled(b, names[i], func(b *branch) { from(i+1, b) })
	}
	from(0, b)
}
