package launch_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	k8stesting "k8s.io/client-go/testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch/launchtest"
)

func options() launch.Options {
	return launch.Options{Namespace: "shop", Image: "agent:test", Profile: launch.NetAdmin, Timeout: 5 * time.Second}
}

func TestEveryAgentAnswersAndNoPodIsLeft(t *testing.T) {
	c := launchtest.NewCluster()
	c.Agents["node1"] = &launchtest.Agent{Kernel: "6.1.0-one"}
	c.Agents["node2"] = &launchtest.Agent{Kernel: "6.1.0-two"}
	f := launch.Start(t.Context(), c.Client, c, options(), []string{"node1", "node2"})
	for node, kernel := range map[string]string{"node1": "6.1.0-one", "node2": "6.1.0-two"} {
		a, err := f.Agent(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		ans, err := a.Ask(t.Context(), wire.Request{Describe: &wire.DescribeRequest{}})
		if err != nil {
			t.Fatal(err)
		}
		if ans.Describe == nil || a.Hello().Kernel != kernel {
			t.Errorf("%s: got %+v from %+v", node, ans, a.Hello())
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if left := c.Left(); len(left) != 0 {
		t.Errorf("pods left: %v", left)
	}
	if n := len(c.Created()); n != 2 {
		t.Errorf("%d pods were created", n)
	}
}

func TestAgentIsAddedLaterOnceAndNotAfterTheEnd(t *testing.T) {
	c := launchtest.NewCluster()
	for _, n := range []string{"node1", "node2", "node3"} {
		c.Agents[n] = &launchtest.Agent{Kernel: "of " + n}
	}
	f := launch.Start(t.Context(), c.Client, c, options(), []string{"node1"})
	if _, err := f.Agent(t.Context(), "node2"); err == nil {
		t.Error("an agent that nobody asked for")
	}
	f.Add("node2", "node1", "node2")
	for _, n := range []string{"node1", "node2"} {
		a, err := f.Agent(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Ask(t.Context(), wire.Request{Describe: &wire.DescribeRequest{}}); err != nil || a.Hello().Kernel != "of "+n {
			t.Errorf("%s: %v", n, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f.Add("node3")
	if n := len(c.Created()); n != 2 || len(c.Left()) != 0 {
		t.Errorf("%d pods were created, left %v", n, c.Left())
	}
}

func TestPodIsPinnedToleratesEverythingAndDropsAllOtherCapabilities(t *testing.T) {
	c := launchtest.NewCluster()
	c.Agents["node1"] = &launchtest.Agent{}
	f := launch.Start(t.Context(), c.Client, c, options(), []string{"node1"})
	if _, err := f.Agent(t.Context(), "node1"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p := c.Created()[0]
	ctr := p.Spec.Containers[0]
	caps := ctr.SecurityContext.Capabilities
	for what, ok := range map[string]bool{
		"pinned by nodeName":           p.Spec.NodeName == "node1",
		"name prefix":                  strings.HasPrefix(p.Name, launch.NamePrefix),
		"host network and process IDs": p.Spec.HostNetwork && p.Spec.HostPID,
		"no token":                     !*p.Spec.AutomountServiceAccountToken,
		"tolerates every taint":        len(p.Spec.Tolerations) == 1 && p.Spec.Tolerations[0] == corev1.Toleration{Operator: corev1.TolerationOpExists},
		"ends by itself":               *p.Spec.ActiveDeadlineSeconds > 0 && p.Spec.RestartPolicy == corev1.RestartPolicyNever,
		"stdin once":                   ctr.Stdin && ctr.StdinOnce,
		"read-only root":               *ctr.SecurityContext.ReadOnlyRootFilesystem,
		"drops all":                    len(caps.Drop) == 1 && caps.Drop[0] == "ALL",
		"limits":                       !ctr.Resources.Limits.Memory().IsZero() && !ctr.Resources.Requests.Cpu().IsZero(),
	} {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
	for _, a := range caps.Add {
		if a == "SYS_RESOURCE" {
			t.Error("asks for SYS_RESOURCE")
		}
	}
}

func TestStartFailuresAreSentencesWithNextStepsAndLeaveNothing(t *testing.T) {
	tests := map[string]struct {
		status         corev1.PodStatus
		sentence, next string
	}{
		"image cannot be pulled": {launchtest.Waiting("ErrImagePull", "no such host"), "cannot pull the agent's image agent:test: no such host", "--image"},
		"image is backed off":    {launchtest.Waiting("ImagePullBackOff", ""), "cannot pull", "--image"},
		"invalid image":          {launchtest.Waiting("InvalidImageName", ""), "no valid image name", "--image"},
		"image not loaded":       {launchtest.Waiting("ErrImageNeverPull", ""), "pull policy is Never", "--image-pull-policy"},
		"runtime refuses":        {launchtest.Waiting("CreateContainerError", "cap"), "cannot start the agent (CreateContainerError): cap", "--profile"},
		"kubelet refuses":        {corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "no room"}, "refused the agent pod (OutOfcpu): no room", "describe node"},
		"agent ends at once": {corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{Name: "agent", State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 2, Message: "boom"}}}}}, "ended at once (Error, exit code 2): boom", "--image"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := launchtest.NewCluster()
			c.Status = func(string) corev1.PodStatus { return tt.status }
			f := launch.Start(t.Context(), c.Client, c, options(), []string{"node1"})
			_, err := f.Agent(t.Context(), "node1")
			if cerr := f.Close(); cerr != nil {
				t.Error(cerr)
			}
			var fail *launch.Failure
			if !errors.As(err, &fail) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(fail.Sentence, tt.sentence) || !strings.Contains(fail.Next, tt.next) {
				t.Errorf("got %q, next %q", fail.Sentence, fail.Next)
			}
			if left := c.Left(); len(left) != 0 {
				t.Errorf("pods left: %v", left)
			}
		})
	}
}

func TestRefusalsAreExplained(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	tests := map[string]struct {
		err            error
		sentence, next string
	}{
		"no permission": {apierrors.NewForbidden(pods, "", errors.New(`User "eve" cannot create resource "pods" in API group "" in the namespace "shop"`)),
			"no permission to create pods in namespace shop", "kubectl auth can-i create pods -n shop"},
		"pod security": {apierrors.NewForbidden(pods, "x", errors.New(`violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`)),
			"does not admit the agent pod, which needs the node's network: violates PodSecurity", "--agent-namespace"},
		"quota":        {apierrors.NewForbidden(pods, "x", errors.New("exceeded quota: few")), "quota of namespace shop", "--agent-namespace"},
		"webhook":      {apierrors.NewBadRequest(`admission webhook "kyverno" denied the request: no`), `admission refused the agent pod in namespace shop`, launch.NamePrefix},
		"no namespace": {apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "shop"), "namespace shop for the agent pods does not exist", "--agent-namespace"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := launchtest.NewCluster()
			c.Client.PrependReactor("create", "pods", func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, tt.err })
			f := launch.Start(t.Context(), c.Client, c, options(), []string{"node1"})
			_, err := f.Agent(t.Context(), "node1")
			if cerr := f.Close(); cerr != nil {
				t.Error(cerr)
			}
			var fail *launch.Failure
			if !errors.As(err, &fail) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(fail.Sentence, tt.sentence) || !strings.Contains(fail.Next, tt.next) {
				t.Errorf("got %q, next %q", fail.Sentence, fail.Next)
			}
			for _, a := range c.Client.Actions() {
				if a.GetVerb() == "delete" {
					t.Error("a pod that was refused is deleted")
				}
			}
		})
	}
}

func TestPodThatNeverRunsIsGivenUpInTime(t *testing.T) {
	c := launchtest.NewCluster()
	c.Status = func(string) corev1.PodStatus { return launchtest.Waiting("ContainerCreating", "") }
	o := options()
	o.Timeout = 50 * time.Millisecond
	f := launch.Start(t.Context(), c.Client, c, o, []string{"node1"})
	_, err := f.Agent(t.Context(), "node1")
	if err == nil || !strings.Contains(err.Error(), "did not run within 50ms: its container waits: ContainerCreating") {
		t.Errorf("got %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if left := c.Left(); len(left) != 0 {
		t.Errorf("pods left: %v", left)
	}
}

// TestInterruptWhileACreateRequestIsUnderWayLeavesNoPod has an API server that makes the pod only after the interrupt, as a
// slow admission webhook does.
func TestInterruptWhileACreateRequestIsUnderWayLeavesNoPod(t *testing.T) {
	var exists atomic.Bool
	begun, interrupted := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.Method {
		case http.MethodPost:
			close(begun)
			<-interrupted
			time.Sleep(50 * time.Millisecond)
			exists.Store(true)
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"Pod"}`))
		case http.MethodDelete:
			exists.Store(false)
			_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"Status","status":"Success"}`))
		default: // the watch
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	f := launch.Start(ctx, kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL}), launchtest.NewCluster(), options(), []string{"node1"})
	<-begun
	cancel()
	close(interrupted)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // a cut-off request would make its pod now
	if exists.Load() {
		t.Error("the pod is left")
	}
}

func TestPodsThatCannotBeDeletedAreNamed(t *testing.T) {
	c := launchtest.NewCluster()
	c.Agents["node1"] = &launchtest.Agent{}
	c.Client.PrependReactor("delete", "pods", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("no")
	})
	f := launch.Start(t.Context(), c.Client, c, options(), []string{"node1"})
	if _, err := f.Agent(t.Context(), "node1"); err != nil {
		t.Fatal(err)
	}
	err := f.Close()
	if err == nil || !strings.Contains(err.Error(), c.Created()[0].Name) {
		t.Errorf("got %v", err)
	}
}

func TestAgentOfAnotherVersionIsRefused(t *testing.T) {
	c := launchtest.NewCluster()
	c.Agents["node1"] = &launchtest.Agent{Version: wire.Version + 1}
	f := launch.Start(t.Context(), c.Client, c, options(), []string{"node1"})
	defer f.Close()
	a, err := f.Agent(t.Context(), "node1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Ask(t.Context(), wire.Request{Describe: &wire.DescribeRequest{}}); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("got %v", err)
	}
}

func TestFailedAttachReachesWhoAsks(t *testing.T) {
	c := launchtest.NewCluster()
	c.AttachError = errors.New("dial tcp: no route to kubelet")
	f := launch.Start(t.Context(), c.Client, c, options(), []string{"node1"})
	defer f.Close()
	a, err := f.Agent(t.Context(), "node1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Ask(t.Context(), wire.Request{Describe: &wire.DescribeRequest{}})
	var fail *launch.Failure
	if !errors.As(err, &fail) || !strings.Contains(fail.Sentence, "no route to kubelet") {
		t.Errorf("got %v", err)
	}
}

func TestCleanupFindsByLabelAndDeletes(t *testing.T) {
	mine := &corev1.Pod{}
	mine.Name, mine.Namespace = "svctrace-agent-node1-abc", "shop"
	mine.Labels = map[string]string{"app.kubernetes.io/name": "svctrace-agent", "app.kubernetes.io/managed-by": "kubectl-svctrace"}
	other := &corev1.Pod{}
	other.Name, other.Namespace = "svctrace-agent-like", "shop"
	c := launchtest.NewCluster(mine, other)
	left, err := launch.Leftovers(t.Context(), c.Client, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || left[0].Name != mine.Name {
		t.Fatalf("found %+v", left)
	}
	if err := launch.Delete(t.Context(), c.Client, left); err != nil {
		t.Fatal(err)
	}
	if left, _ = launch.Leftovers(t.Context(), c.Client, "", time.Now()); len(left) != 0 {
		t.Errorf("left %+v", left)
	}
}
