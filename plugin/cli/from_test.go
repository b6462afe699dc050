package cli

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

var podsResource = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// asked runs a trace from origins to paths and returns its answer, exit code and the first walks of each journey.
func asked(t *testing.T, s *shop, from, to []string) (string, int, []wire.WalkRequest) {
	t.Helper()
	var (
		mu    sync.Mutex
		walks []wire.WalkRequest
	)
	for _, a := range s.Agents {
		before := a.Walk
		a.Walk = func(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
			if !r.Reply && !r.Arrives.IsValid() {
				mu.Lock()
				walks = append(walks, r)
				mu.Unlock()
			}
			return before(r)
		}
	}
	o, out, errOut := s.options(t)
	var err error
	if o.from, err = parseOrigins(from); err != nil {
		t.Fatal(err)
	}
	o.to = to
	err = o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, render.Human, false) })
	if err != nil {
		report(errOut, err)
	}
	if left := s.Left(); len(left) > 0 {
		t.Errorf("pods left: %v", left)
	}
	return out.String() + errOut.String(), codeOf(err), walks
}

func TestWalksStartWhereFromSays(t *testing.T) {
	replica := pod("shop", "batch-1", "node2", "10.244.2.40")
	replica.Labels = map[string]string{"app": "batch"}
	waiting := pod("shop", "batch-0", "node2", "10.244.2.41")
	waiting.Labels, waiting.Status.Phase = map[string]string{"app": "batch"}, corev1.PodPending
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "batch"},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "batch"}}},
	}
	hostPod := pod("shop", "host", "node2", "10.250.0.12")
	hostPod.Spec.HostNetwork = true
	tests := map[string]struct {
		from, to []string
		// want are node, source, whether from the address's namespace, interface and destination of each walk.
		want []string
	}{
		"a pod":              {[]string{"pod/client"}, nil, []string{"node1 10.244.1.20:0 true  10.250.0.11:30080", "node1 10.244.1.20:0 true  10.96.0.25:80"}},
		"a node":             {[]string{"node/node2"}, []string{"clusterip"}, []string{"node2 invalid AddrPort false  10.96.0.25:80"}},
		"one of many":        {[]string{"deploy/batch"}, []string{"10.96.0.25:80"}, []string{"node2 10.244.2.40:0 true  10.96.0.25:80"}},
		"a host network pod": {[]string{"pod/host"}, []string{"ClusterIP:http"}, []string{"node2 invalid AddrPort false  10.96.0.25:80"}},
		"outside":            {[]string{"external"}, []string{"30080"}, []string{"node1 192.0.2.1:0 false eth0 10.250.0.11:30080", "node2 192.0.2.1:0 false eth0 10.250.0.12:30080"}},
		"an address outside": {[]string{"external=203.0.113.9"}, []string{"nodeport"}, []string{"node1 203.0.113.9:0 false eth0 10.250.0.11:30080", "node2 203.0.113.9:0 false eth0 10.250.0.12:30080"}},
		"several":            {[]string{"pod/client", "node/node1", "pod/client"}, []string{"80", "clusterip"}, []string{"node1 10.244.1.20:0 true  10.250.0.11:30080", "node1 10.244.1.20:0 true  10.96.0.25:80", "node1 invalid AddrPort false  10.250.0.11:30080", "node1 invalid AddrPort false  10.96.0.25:80"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out, code, walks := asked(t, newShop(deployment, replica, waiting, hostPod), tt.from, tt.to)
			var got []string
			for _, r := range walks {
				got = append(got, strings.Join([]string{r.Node, r.Source.String(), map[bool]string{true: "true", false: "false"}[r.FromAddress], r.In, r.Destination.String()}, " "))
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) || code != exitOK {
				t.Errorf("exit code %d, asked\n%s\nwant\n%s\n%s", code, strings.Join(got, "\n"), strings.Join(tt.want, "\n"), out)
			}
		})
	}
}

func TestAgentOnAnotherNodeStartsWhenAWalkComesThere(t *testing.T) {
	s := newShop(node("node3", 3, true))
	s.kernels["node1"].endpoints = []string{"10.244.2.15:8080"}
	out, code, _ := asked(t, s, []string{"pod/client"}, []string{"clusterip"})
	var nodes []string
	for _, p := range s.Created() {
		nodes = append(nodes, p.Spec.NodeName)
	}
	if !slices.Equal(nodes, []string{"node1", "node2"}) || code != exitFindings || !strings.Contains(out, "by eth0 to node2, delivered") {
		t.Errorf("agents on %v, exit code %d\n%s", nodes, code, out)
	}
	// Where no walk leaves the node, no other agent is started.
	s = newShop()
	s.kernels["node1"].endpoints = []string{"10.244.1.10:8080"}
	asked(t, s, []string{"pod/client"}, []string{"clusterip"})
	if n := len(s.Created()); n != 1 {
		t.Errorf("%d agents", n)
	}
}

func TestClientsThatCannotBeAreNamedAndTheRestIsTraced(t *testing.T) {
	pending := pod("shop", "pending", "node1", "10.244.1.50")
	pending.Status.Phase = corev1.PodPending
	pending.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
	s := newShop(pending, node("node3", 3, false), pod("shop", "lost", "node3", "10.244.3.5"))
	out, code, walks := asked(t, s, []string{"pod/pending", "pod/lost", "node/node3", "pod/client"}, []string{"clusterip"})
	if code != exitUnknown || len(walks) != 1 {
		t.Errorf("exit code %d, %d walks", code, len(walks))
	}
	for _, want := range []string{"pod shop/pending is Pending (ImagePullBackOff), not Running", "--from pod/lost: node node3 is not ready", "--from node/node3", "delivered, listening"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if out, code, walks = asked(t, newShop(pending), []string{"pod/pending"}, nil); code != exitUnknown || len(walks) != 0 || !strings.Contains(out, "PATH") && !strings.Contains(out, "ENDPOINT") {
		t.Errorf("alone: exit code %d, %d walks\n%s", code, len(walks), out)
	}
}

func TestOriginsThatDoNotExistAreUsage(t *testing.T) {
	for from, says := range map[string]string{
		"pod/klient":        "did you mean client",
		"pod/client/nobody": "has no container nobody",
		"node/node9":        "node node9 does not exist",
		"deploy/nothing":    "deployment shop/nothing does not exist",
	} {
		if out, code, _ := asked(t, newShop(), []string{from}, nil); code != exitUsage || !strings.Contains(out, says) {
			t.Errorf("%s: exit code %d, %s", from, code, out)
		}
	}
	if out, code, _ := asked(t, newShop(), nil, []string{"externalip"}); code != exitUsage || !strings.Contains(out, "NodePort 30080/TCP") {
		t.Errorf("exit code %d, %s", code, out)
	}
}

func TestPodThatDisappearsIsSaidSo(t *testing.T) {
	s := newShop()
	for _, a := range s.Agents {
		before := a.Walk
		a.Walk = func(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
			if r.FromAddress && !r.Reply && r.Source.Addr() == netip.MustParseAddr("10.244.1.20") {
				_ = s.Client.Tracker().Delete(podsResource, "shop", "client")
				return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "no namespace on this node has the address 10.244.1.20"}
			}
			return before(r)
		}
	}
	out, code, _ := asked(t, s, []string{"pod/client", "node/node1"}, []string{"clusterip"})
	if flat := strings.Join(strings.Fields(out), " "); code != exitUnknown || !strings.Contains(flat, "pod shop/client is gone: it was deleted during the trace") || !strings.Contains(flat, "node1 itself") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestNodeOnTheWayThatRefusesTheAgent(t *testing.T) {
	s := newShop()
	s.Status = brokenOn("node2")
	out, code, _ := asked(t, s, []string{"pod/client"}, []string{"clusterip"})
	if code != exitUnknown || !strings.Contains(out, "by eth0 to node2, which could not be read") || !strings.Contains(out, "NOT TRACED") || strings.Contains(out, "FINDINGS\n") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	s = newShop()
	if err := s.Client.Tracker().Update(nodesResource, node("node2", 2, false), ""); err != nil {
		t.Fatal(err)
	}
	if out, code, _ = asked(t, s, []string{"pod/client"}, []string{"clusterip"}); code != exitUnknown || !strings.Contains(out, "not ready") || len(s.Created()) != 1 {
		t.Errorf("exit code %d, %d agents\n%s", code, len(s.Created()), out)
	}
}

func TestEndsOfJourneys(t *testing.T) {
	tests := map[string]struct {
		change func(*shop)
		find   string
	}{
		"nobody-listens": {func(s *shop) {
			s.kernels["node2"].deaf = map[string]string{"10.244.2.15:8080": "no socket listens on tcp port 8080"}
		}, "target-port-not-listening"},
		"loopback-only": {func(s *shop) {
			s.kernels["node2"].deaf = map[string]string{"10.244.2.15:8080": "a socket listens on 127.0.0.1:8080 only"}
		}, "listens-on-loopback-only"},
		"reply-untranslated": {func(s *shop) { s.kernels["node1"].forgets = true }, "reply-not-translated"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newShop()
			tt.change(s)
			o, out, _ := s.options(t)
			o.from, _ = parseOrigins([]string{"pod/client"})
			var found []string
			err := o.run(t.Context(), func(a *render.Answer) error {
				for _, f := range a.Report.Findings {
					found = append(found, f.ID)
				}
				return render.Write(out, a, render.Human, false)
			})
			found = slices.Compact(found)
			if code := codeOf(err); code != exitFindings || !slices.Equal(found, []string{tt.find}) {
				t.Errorf("exit code %d, findings %v", code, found)
			}
			golden(t, name+".txt", out.Bytes())
		})
	}
}

func TestMaxNodesBoundsTheNodesThatWalksAreFollowedTo(t *testing.T) {
	s := newShop()
	o, out, _ := s.options(t)
	o.from, _ = parseOrigins([]string{"pod/client"})
	o.to, o.maxNodes = []string{"clusterip"}, 1
	err := o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, render.Human, false) })
	if code := codeOf(err); code != exitOK || len(s.Created()) != 1 || !strings.Contains(out.String(), "not followed") {
		t.Errorf("exit code %d, %d agents\n%s", code, len(s.Created()), out)
	}
}

func TestSidecarOfTheClientIsExplained(t *testing.T) {
	s := newShop()
	s.kernels["node1"].walk = func(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
		tr := trace.New(trace.Packet{Protocol: r.Protocol, Source: r.Source, Destination: r.Destination})
		in := "pod shop/client"
		tr.Hops = []trace.Hop{
			{Node: "node1", Namespace: in, Hook: "output", Table: "ip nat", Chain: "ISTIO_REDIRECT", Action: "redirect to 127.0.0.1:15001", Rule: &trace.Rule{Handle: 1, Text: "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001"}},
			{Node: "node1", Namespace: in, Hook: "socket", Action: "delivered", Says: "a socket listens on 0.0.0.0:15001 (pid 99 /envoy)"},
		}
		tr.Outcomes = []trace.Outcome{{Verdict: trace.Delivered, Probability: trace.NewProbability(1, 1), Destination: netip.MustParseAddrPort("127.0.0.1:15001"), Source: r.Source, Conditions: []string{}, Path: []int{0, 1}}}
		return tr, nil
	}
	out, code, _ := asked(t, s, []string{"pod/client"}, []string{"clusterip"})
	if code != exitOK || !strings.Contains(out, "the pod's sidecar takes it first (port 15001, pid 99 /envoy)") || !strings.Contains(out, "FINDINGS none") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestSidecarOfTheEndpointIsNoOtherEndpoint(t *testing.T) {
	s := newShop()
	agent := s.Agents["node2"]
	before := agent.Walk
	agent.Walk = func(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
		tr, werr := before(r)
		if r.Reply || !r.Arrives.IsValid() {
			return tr, werr
		}
		o := &tr.Outcomes[0]
		o.Destination = netip.AddrPortFrom(o.Destination.Addr(), 15006)
		end := o.Path[len(o.Path)-1]
		redirect := trace.Hop{Node: "node2", Namespace: tr.Hops[end].Namespace, Hook: "prerouting", Table: "ip nat", Chain: "ISTIO_IN_REDIRECT", Action: "redirect to " + o.Destination.String()}
		tr.Hops = append(tr.Hops, redirect)
		o.Path = append(slices.Clone(o.Path[:len(o.Path)-1]), len(tr.Hops)-1, end)
		return tr, nil
	}
	s.kernels["node1"].forgets = false
	o, out, _ := s.options(t)
	o.from, _ = parseOrigins([]string{"pod/client"})
	o.to = []string{"clusterip"}
	err := o.run(t.Context(), func(a *render.Answer) error {
		for _, f := range a.Report.Findings {
			if f.ID == diagnose.EndpointNotInAPI.ID || f.ID == diagnose.EndpointMissing.ID {
				t.Errorf("%s: %s", f.ID, f.Sentence)
			}
		}
		return render.Write(out, a, render.Human, false)
	})
	if !bytes.Contains(out.Bytes(), []byte("delivered to the sidecar on port 15006")) {
		t.Errorf("%v\n%s", err, out)
	}
}
