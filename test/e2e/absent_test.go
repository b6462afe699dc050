package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// TestWhatCannotBeTracedIsNamedAndTheRestIsTraced has clients and nodes that are not there, or go away meanwhile: each is
// named in a sentence, the rest is traced, and the exit code says that not all could be told.
func TestWhatCannotBeTracedIsNamedAndTheRestIsTraced(t *testing.T) {
	c := newCluster(t, "absent", lab.IPv4)
	ctx := within(t, 8*time.Minute)
	if err := c.makeWeb(ctx, named("plain")); err != nil {
		t.Fatal(err)
	}
	t.Run("a pod that does not run", func(t *testing.T) { c.traceWaiting(ctx, t) })
	t.Run("a pod that disappears", func(t *testing.T) { c.traceDisappearing(ctx, t) })
	t.Run("a node on the way that refuses the agent", func(t *testing.T) { c.traceRefusing(ctx, t) })
	t.Run("a node that is not ready", func(t *testing.T) { c.traceUnready(ctx, t) })
	c.noAgents(ctx, t)
}

// requireRest requires the exit code of an answer in part, what it says cannot be traced, and walks from a node that can.
func requireRest(t *testing.T, a *render.ServiceTrace, r ran, node, says string) {
	t.Helper()
	if r.code != exitUnknown || r.stderr != "" {
		t.Errorf("want exit code %d and nothing on standard error:\n%v", exitUnknown, r)
	}
	if !slices.ContainsFunc(a.NotTraced, func(n render.NotTraced) bool { return strings.Contains(n.Reason, says) }) {
		t.Errorf("nobody says %q: %+v", says, a.NotTraced)
	}
	good := 0
	for _, w := range a.Walks {
		if w.Node == node && w.Trace != nil && w.Result == "ok" {
			good++
		}
	}
	if good == 0 {
		t.Errorf("nothing else is traced: %+v", a.Walks)
	}
}

// traceWaiting traces from a pod whose image is not there, and from one that no node takes.
func (c *cluster) traceWaiting(ctx context.Context, t *testing.T) {
	for name, change := range map[string]func(*corev1.PodSpec){
		"no-image": func(s *corev1.PodSpec) { s.NodeName, s.Containers[0].Image = c.Node(1).Name, "lab.test/absent:1" },
		"no-node":  func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"lab.test/none": "yes"} },
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: lab.WebPodSpec()}
		change(&pod.Spec)
		if _, err := c.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	err := eventually(ctx, "wait until the kubelet has refused the image", func() (bool, error) {
		p, err := c.client.CoreV1().Pods(namespace).Get(ctx, "no-image", metav1.GetOptions{})
		return err == nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
			strings.HasPrefix(p.Status.ContainerStatuses[0].State.Waiting.Reason, "ErrImage"), err
	})
	if err != nil {
		t.Fatal(err)
	}
	a, r := c.trace(ctx, t, "plain", "-o", "json", "--from", "pod/no-image", "--from", "pod/no-node", "--from", "node/node2")
	requireRest(t, a, r, "node2", "pod default/no-image is Pending (ErrImage")
	requireRest(t, a, r, "node2", "pod default/no-node is not scheduled to any node")
}

// traceDisappearing stops the plugin for a moment, after it has begun, in which its client goes away.
func (c *cluster) traceDisappearing(ctx context.Context, t *testing.T) {
	const victim = "victim"
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := c.ClientPod(ctx, victim, c.Node(1)); err != nil {
		t.Fatal(err)
	}
	args := append(fromPod("plain", victim), "--from", "node/node2")
	cmd, err := c.plugin(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err = eventually(ctx, "wait for an agent's pod", func() (bool, error) { return moments[0].reached(c, ctx) })
	if err == nil {
		err = signalChild(cmd.Process.Pid, syscall.SIGSTOP)
	}
	if err == nil {
		err = c.vanish(ctx, victim)
	}
	// nsenter stops itself when its child is stopped
	if err = errors.Join(err, signalChild(cmd.Process.Pid, syscall.SIGCONT), cmd.Process.Signal(syscall.SIGCONT)); err != nil {
		t.Fatal(errors.Join(err, cmd.Cancel(), cmd.Wait()))
	}
	r := ran{args: args}
	err = cmd.Wait()
	r.stdout, r.stderr = stdout.String(), stderr.String()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
	}
	a, err := r.answer()
	if err != nil {
		t.Fatal(err)
	}
	requireGone := 0
	for _, w := range a.Walks {
		if w.Client.Pod != namespace+"/"+victim {
			continue
		}
		if w.Trace != nil || w.Error == nil || w.Error.Message != "pod default/victim is gone: it was deleted during the trace" || w.Result != "unknown" {
			t.Errorf("%s: %+v, trace %v", w.Result, w.Error, w.Trace != nil)
		}
		requireGone++
	}
	if requireGone == 0 || r.code != exitUnknown || !slices.ContainsFunc(a.Walks, func(w render.Walk) bool { return w.Node == "node2" && w.Result == "ok" }) {
		t.Errorf("%d walks from the pod that is gone; %v", requireGone, r)
	}
}

// vanish deletes a pod and waits until its sandbox is gone too.
func (c *cluster) vanish(ctx context.Context, name string) error {
	if err := c.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1)}); err != nil {
		return err
	}
	return eventually(ctx, "wait until pod "+name+" is gone", func() (bool, error) {
		_, err := c.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		return isNotFound(err), ignoreNotFound(err)
	})
}

// traceRefusing takes the agent's image from a node that packets come to: what becomes of them there is not guessed.
func (c *cluster) traceRefusing(ctx context.Context, t *testing.T) {
	n := c.Node(2)
	if _, err := n.Run(ctx, "ctr", "--namespace", "k8s.io", "images", "rm", "docker.io/"+agentImage); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Load(ctx, built.archive); err != nil {
			t.Error(err)
		}
	}()
	a, r := c.trace(ctx, t, append(fromPod("plain", c.clients[0].Name), "--to", "clusterip", "--image-pull-policy", "Never")...)
	if r.code != exitUnknown || !slices.ContainsFunc(a.NotTraced, func(x render.NotTraced) bool {
		return x.Node == n.Name && strings.Contains(x.Reason, "does not have the agent's image")
	}) {
		t.Errorf("%v\nnot traced %+v", r, a.NotTraced)
	}
	for _, w := range a.Walks {
		if w.Result != "unknown" || len(w.Stops) != 1 || w.Stops[0].Node != n.Name || w.Stops[0].Bounded || len(w.Findings) > 0 {
			t.Errorf("%s: %s, stops %+v, findings %q", w.Destination, w.Result, w.Stops, w.Findings)
			continue
		}
		delivered := 0
		for i, o := range w.Trace.Outcomes {
			if (o.Verdict == "delivered") == (i == w.Stops[0].Outcome) {
				t.Errorf("%s: outcome %d: %s", w.Destination, i, o.Verdict)
			}
			if o.Verdict == "delivered" {
				delivered++
			}
		}
		for _, h := range w.Trace.Hops {
			if h.Node != c.Node(1).Name {
				t.Errorf("%s: a step on %s: %+v", w.Destination, h.Node, h)
			}
		}
		if delivered != 2 { // web-a and web-b
			t.Errorf("%s: %d delivered", w.Destination, delivered)
		}
	}
}

// traceUnready makes a node not ready: the kubelet, which would say otherwise, is stopped.
func (c *cluster) traceUnready(ctx context.Context, t *testing.T) {
	n := c.Node(3)
	if err := n.Stop(ctx, lab.Kubelet); err != nil {
		t.Fatal(err)
	}
	patch, err := json.Marshal(map[string]any{"status": corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "Test", Message: "the test stopped the kubelet",
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.CoreV1().Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	a, r := c.trace(ctx, t, "plain", "-o", "json", "--node", "node1", "--node", "node3")
	requireRest(t, a, r, "node1", "node node3 is not ready")
	a, r = c.trace(ctx, t, "plain", "-o", "json", "--from", "node/node3", "--from", "node/node1")
	requireRest(t, a, r, "node1", "--from node/node3: node node3 is not ready")
}
