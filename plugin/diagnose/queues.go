package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: sockets whose program does not keep up.
var (
	SocketQueueFull = Kind{
		ID: "socket-queue-full", Severity: Warning, Title: "queue full",
		Means: "The endpoint's program listens and does not fetch what arrives: its queue was full when it was looked at. New connections wait and fail, new " +
			"datagrams are lost, until it does.",
		Proven: "The socket's own queue and limit, as the kernel has them (sock_diag; Recv-Q and Send-Q of ss).",
		Fix: "see why the program does not accept: it hangs, or has too few workers; a longer backlog (listen(), net.core.somaxconn) or receive buffer only helps " +
			"against bursts",
	}
	SocketQueueOverflowed = Kind{
		ID: "socket-queue-overflowed", Severity: Info, Title: "has dropped",
		Means:  "The endpoint's socket, or a listener of its pod, has dropped connections or datagrams since it was opened: its program did not keep up at some time.",
		Proven: "The counter of the socket, or ListenOverflows of the pod's network namespace, is not zero.",
		Fix: "watch whether it goes on: kubectl exec POD -- nstat -az TcpExtListenOverflows, ss -lntu; then give the program a longer backlog or receive buffer, or " +
			"more replicas",
	}
)

func queueFamily() Family {
	return Family{Name: "The endpoint's queue", Kinds: []Kind{SocketQueueFull, SocketQueueOverflowed}}
}

// checkQueues reports sockets at the end of a walk that take no more, or have dropped before.
func checkQueues(m *intent.Model, w *survey.Walk, v view) []draft {
	var out []draft
	seen := map[string]bool{}
	for _, i := range append(append([]int{}, v.translated...), v.sidecar...) {
		o := &w.Trace.Outcomes[i]
		l := o.Listener
		if l == nil {
			continue
		}
		to := EndpointOf(m, w, o)
		d := draft{on: endNode(w, o), subject: to.String()}
		name := to.String()
		if e, ok := known(m, w.Path, to); ok {
			name = endpointName(e)
		}
		switch {
		case l.Full && w.Path.Protocol == "tcp":
			d.kind = SocketQueueFull
			d.sentence = fmt.Sprintf("endpoint %s listens and does not accept: %d connections wait and its backlog is %d, so that new ones are dropped", name, l.Queue, l.QueueMax)
		case l.Full:
			d.kind = SocketQueueFull
			d.sentence = fmt.Sprintf("endpoint %s does not read what arrives: %d bytes wait of %d, so that new datagrams are dropped", name, l.Queue, l.QueueMax)
		case l.Drops > 0:
			d.kind = SocketQueueOverflowed
			d.sentence = fmt.Sprintf("the socket of endpoint %s has dropped %d packet%s since it was opened", name, l.Drops, plural(int(l.Drops)))
		case l.NamespaceOverflows > 0 && inPod(w.Trace, o):
			d.kind = SocketQueueOverflowed
			d.sentence = fmt.Sprintf("listeners in the pod of endpoint %s have turned %d connection%s away because their queue was full", name, l.NamespaceOverflows, plural(int(l.NamespaceOverflows)))
		default:
			continue
		}
		key := d.kind.ID + d.subject
		if seen[key] {
			continue
		}
		seen[key] = true
		d.evidence = queueEvidence(w.Trace, o)
		out = append(out, d)
	}
	return out
}

// queueEvidence are the steps of a way that tell about the socket's queue.
func queueEvidence(t *trace.Trace, o *trace.Outcome) []Evidence {
	l := o.Listener
	out := []Evidence{value(l.Address.String()+" queue", l.Queue, "socket %s: %d wait of at most %d", l.Address, l.Queue, l.QueueMax)}
	if l.Drops > 0 {
		out = append(out, value(l.Address.String()+" drops", l.Drops, "socket %s: %d dropped", l.Address, l.Drops))
	}
	if l.NamespaceOverflows > 0 {
		out = append(out, value("TcpExtListenOverflows", l.NamespaceOverflows, "ListenOverflows of the network namespace: %d", l.NamespaceOverflows))
	}
	for _, i := range o.Path {
		if i >= 0 && i < len(t.Hops) && t.Hops[i].Hook == "socket" && t.Hops[i].Says != "" {
			h := &t.Hops[i]
			out = append(out, said("%s in %s: %s: %s", h.Node, h.Namespace, h.Action, h.Says))
		}
	}
	return out
}

func inPod(t *trace.Trace, o *trace.Outcome) bool {
	h := lastOf(t, o)
	return h != nil && h.Namespace != "" && h.Namespace != hostNamespace
}
