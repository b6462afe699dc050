package launchtest

import (
	"errors"
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// pod makes an agent pod for node1.
func pod(t *testing.T, c *Cluster, name string) *corev1.Pod {
	t.Helper()
	p, err := c.Client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "node1"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPodsComeAndGoAsInACluster(t *testing.T) {
	c := NewCluster()
	pods := c.Client.CoreV1().Pods("default")
	pod(t, c, "early")
	w, err := pods.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	c.Status = func(node string) corev1.PodStatus { return Waiting("ErrImagePull", "no "+node) }
	if p := pod(t, c, "late"); p.Status.ContainerStatuses[0].State.Waiting.Message != "no node1" {
		t.Errorf("status %+v", p.Status)
	}
	if err := pods.Delete(t.Context(), "early", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		event watch.EventType
		name  string
		phase corev1.PodPhase
	}{{watch.Added, "early", corev1.PodRunning}, {watch.Added, "late", corev1.PodPending}, {watch.Deleted, "early", corev1.PodRunning}} {
		e := <-w.ResultChan()
		p, ok := e.Object.(*corev1.Pod)
		if !ok || e.Type != want.event || p.Name != want.name || p.Status.Phase != want.phase {
			t.Errorf("event %s %+v, want %+v", e.Type, e.Object, want)
		}
	}
	if left := c.Left(); len(left) != 1 || left[0] != "default/late" {
		t.Errorf("left %q", left)
	}
	if made := c.Created(); len(made) != 2 || made[0].Name != "early" || made[1].Name != "late" {
		t.Errorf("created %+v", made)
	}
}

func TestAttachReachesTheAgentOfThePodsNode(t *testing.T) {
	c := NewCluster()
	pod(t, c, "agent")
	attach := func(name string) error {
		return c.Attach(t.Context(), "default", name, strings.NewReader(""), io.Discard, io.Discard)
	}
	if err := attach("agent"); err == nil {
		t.Error("a node without agent was attached to")
	}
	c.Agents["node1"] = &Agent{}
	if err := attach("agent"); err != nil {
		t.Error(err)
	}
	if err := attach("absent"); err == nil {
		t.Error("a pod that is not there was attached to")
	}
	c.AttachError = errors.New("refused")
	if err := attach("agent"); !errors.Is(err, c.AttachError) {
		t.Errorf("%v, want AttachError", err)
	}
}

// ask serves requests and returns what the agent wrote.
func ask(t *testing.T, a *Agent, requests ...wire.Request) (wire.Hello, []wire.Answer, error) {
	t.Helper()
	var in, out strings.Builder
	for _, q := range requests {
		if err := wire.Write(&in, q); err != nil {
			t.Fatal(err)
		}
	}
	served := a.Serve(strings.NewReader(in.String()), &out)
	r := strings.NewReader(out.String())
	var h wire.Hello
	if err := wire.Read(r, &h); err != nil {
		if out.Len() > 0 {
			t.Fatal(err)
		}
		return h, nil, served
	}
	var answers []wire.Answer
	for r.Len() > 0 {
		var x wire.Answer
		if err := wire.Read(r, &x); err != nil {
			t.Fatal(err)
		}
		answers = append(answers, x)
	}
	return h, answers, served
}

func TestAgentSpeaksAsTheRealOne(t *testing.T) {
	a := &Agent{
		Kernel: "6.1", Flows: []wire.Flow{{Protocol: "tcp", Mark: 1}, {Protocol: "udp", Mark: 2}},
		Walk: func(q wire.WalkRequest) (*trace.Trace, *wire.Error) {
			return nil, &wire.Error{Code: wire.CodePermission, Message: q.In}
		},
	}
	h, got, err := ask(t, a, wire.Request{ID: 1, Describe: &wire.DescribeRequest{}}, wire.Request{ID: 2, Walk: &wire.WalkRequest{In: "eth0"}},
		wire.Request{ID: 3, Flows: &wire.FlowsRequest{Protocol: "udp"}}, wire.Request{ID: 4, Probe: &wire.ProbeRequest{}}, wire.Request{ID: 5})
	if err != nil || h.Version != wire.Version || h.Kernel != "6.1" || len(got) != 5 {
		t.Fatalf("%+v, %d answers, %v", h, len(got), err)
	}
	for i, x := range got {
		if x.ID != i+1 {
			t.Errorf("answer %d is to request %d", i+1, x.ID)
		}
	}
	if got[0].Describe == nil || got[1].Error == nil || got[1].Error.Message != "eth0" {
		t.Errorf("describe %+v, walk %+v", got[0], got[1])
	}
	if f := got[2].Flows; f == nil || f.Total != 1 || f.Flows[0].Mark != 2 {
		t.Errorf("flows %+v", f)
	}
	for _, x := range got[3:] { // a probe without Probe, and nothing
		if x.Error == nil || x.Error.Code != wire.CodeBadRequest {
			t.Errorf("%+v, want a refusal", x)
		}
	}
	if h, _, err := ask(t, &Agent{Version: 99}, wire.Request{}); err != nil || h.Version != 99 {
		t.Errorf("%+v, %v", h, err)
	}
	if h, got, err := ask(t, &Agent{Silent: true}, wire.Request{}); err != nil || h.Version != 0 || got != nil {
		t.Errorf("a silent agent says %+v %+v, %v", h, got, err)
	}
	if err := a.Serve(strings.NewReader("this is not a frame"), io.Discard); err == nil {
		t.Error("noise is taken for a request")
	}
}
