package diagnose_test

import (
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

func TestSocketsThatDoNotKeepUp(t *testing.T) {
	tests := map[string]struct {
		l        trace.Listener
		protocol string
		pod      bool
		want     string
		says     string
	}{
		"all is well":                {trace.Listener{QueueMax: 128, Queue: 3}, "tcp", true, "", ""},
		"the backlog is full":        {trace.Listener{QueueMax: 1, Queue: 2, Full: true}, "tcp", true, "socket-queue-full", "2 connections wait and its backlog is 1"},
		"the buffer is full":         {trace.Listener{QueueMax: 2304, Queue: 2500, Full: true}, "udp", true, "socket-queue-full", "2500 bytes wait of 2304"},
		"full, and it dropped":       {trace.Listener{QueueMax: 1, Queue: 2, Full: true, Drops: 3, NamespaceOverflows: 3}, "tcp", true, "socket-queue-full", "does not accept"},
		"the socket dropped":         {trace.Listener{QueueMax: 1, Drops: 1}, "udp", true, "socket-queue-overflowed", "has dropped 1 packet since"},
		"a listener of the pod":      {trace.Listener{QueueMax: 1, NamespaceOverflows: 2}, "tcp", true, "socket-queue-overflowed", "turned 2 connections away"},
		"some listener of the node":  {trace.Listener{QueueMax: 1, NamespaceOverflows: 2}, "tcp", false, "", ""},
		"dropped for another reason": {trace.Listener{QueueMax: 1, NamespaceDrops: 2}, "tcp", true, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := model("10.244.1.2:8080")
			m.Ports[0].Protocol, m.Paths[0].Protocol = tt.protocol, tt.protocol
			r, ids := compareChanged(m, nil, func(w *survey.Walk) {
				namespace := "host"
				if tt.pod {
					namespace = "pod web"
				}
				w.Trace.Hops = append(w.Trace.Hops, trace.Hop{Node: "n1", Namespace: namespace, Hook: "socket", Action: "delivered", Says: "a socket listens"})
				w.Trace.Outcomes[0].Path = []int{0, 1}
				w.Trace.Outcomes[0].Listener = &tt.l
			}, out(trace.Delivered, "10.244.1.2:8080", 1, 1))
			if got := strings.Join(ids, " "); got != tt.want {
				t.Fatalf("findings %q, want %q", got, tt.want)
			}
			if tt.want != "" && (!strings.Contains(r.Findings[0].Sentence, tt.says) || len(r.Findings[0].Evidence) == 0 || r.Findings[0].Evidence[0].Value == nil) {
				t.Errorf("%+v", r.Findings[0])
			}
			if full := tt.want == "socket-queue-full"; (r.Overall() == diagnose.Differs) != full {
				t.Errorf("result %s", r.Overall())
			}
		})
	}
}
