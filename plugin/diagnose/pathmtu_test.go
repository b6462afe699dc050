package diagnose_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// sized is a way from a pod with an MTU through a tunnel of another to an interface of a third.
func sized(node string, pod, tunnel, outer int) []trace.Hop {
	hops := []trace.Hop{
		{Node: node, Namespace: "pod", Hook: "process", Action: "sent by user 0"},
		{Node: node, Namespace: "pod", Hook: "route", Action: "route 10.96.0.25 via 10.244.1.1 dev eth0", MTU: pod},
		{Node: node, Namespace: "host", Hook: "route", Action: "route 10.244.2.2 via 10.244.2.0 dev flannel.1", MTU: tunnel},
		{Node: node, Namespace: "host", Hook: "tunnel", Action: "flannel.1 wraps it", Tunnel: &trace.Tunnel{
			Kind: "vxlan", Device: "flannel.1", Overhead: 50, MTU: tunnel, OuterDevice: "eth0", OuterMTU: outer}},
	}
	if pod < 0 { // a process of the node, whose interface has this MTU
		for i := range hops[:2] {
			hops[i].Namespace, hops[i].MTU = "host", -pod
		}
	}
	return hops
}

func TestSizesThatDoNotFitTheTunnel(t *testing.T) {
	tests := map[string]struct {
		there, back [3]int
		want        []string
		says        string
	}{
		"all fits":                           {[3]int{1450, 1450, 1500}, [3]int{1450, 1450, 1500}, nil, ""},
		"to the byte":                        {[3]int{1450, 1450, 1499}, [3]int{1450, 1450, 1500}, []string{"mtu-too-small"}, "grow to 1500 bytes, and eth0 takes 1499"},
		"the overhead is forgotten":          {[3]int{1500, 1500, 1500}, [3]int{1450, 1450, 1500}, []string{"mtu-too-small"}, "grow to 1550 bytes"},
		"it is forgotten at the other end":   {[3]int{1450, 1450, 1500}, [3]int{1500, 1500, 1500}, []string{"mtu-too-small"}, "grow to 1550 bytes"},
		"pods above the tunnel":              {[3]int{1500, 1450, 1500}, [3]int{1450, 1450, 1500}, []string{"mtu-above-tunnel"}, "up to 1500 bytes"},
		"pods above it at the other end":     {[3]int{1450, 1450, 1500}, [3]int{1500, 1450, 1500}, []string{"mtu-above-tunnel"}, "up to 1500 bytes"},
		"both, and each is a finding":        {[3]int{1500, 1480, 1500}, [3]int{1450, 1450, 1500}, []string{"mtu-too-small", "mtu-above-tunnel"}, "grow to 1530 bytes"},
		"a process of the node":              {[3]int{-1500, 1450, 1500}, [3]int{1450, 1450, 1500}, nil, ""},
		"the outer interface is not known":   {[3]int{1500, 1500, 0}, [3]int{1450, 1450, 1500}, nil, ""},
		"pods below the tunnel are harmless": {[3]int{1300, 1450, 1500}, [3]int{1300, 1450, 1500}, nil, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := out(trace.Delivered, "10.244.1.2:8080", 1, 1)
			r, ids := compareChanged(model("10.244.1.2:8080"), nil, func(w *survey.Walk) {
				w.Trace.Hops = append(w.Trace.Hops, sized("n1", tt.there[0], tt.there[1], tt.there[2])...)
				w.Trace.Outcomes[0].Path = []int{1, 2, 3, 4}
				back := trace.New(trace.Packet{})
				back.Hops = sized("n2", tt.back[0], tt.back[1], tt.back[2])
				back.Outcomes = []trace.Outcome{{Verdict: trace.Local, Path: []int{0, 1, 2, 3}}}
				w.Replies = []journey.Reply{{Return: journey.Symmetric, Trace: back}}
			}, o)
			if !slices.Equal(ids, tt.want) {
				t.Fatalf("findings %v, want %v", ids, tt.want)
			}
			if len(ids) == 0 {
				return
			}
			f := r.Findings[0]
			if !strings.Contains(f.Sentence, tt.says) || len(f.Evidence) != 2 || f.Subject != "flannel.1" {
				t.Errorf("%+v", f)
			}
			if differs := f.ID == "mtu-too-small"; (r.Overall() == diagnose.Differs) != differs {
				t.Errorf("result %s", r.Overall())
			}
		})
	}
}
