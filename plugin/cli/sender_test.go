package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

// meshed is a pod with a program, a sidecar, and a third container that waits.
func meshed() *corev1.Pod {
	p := pod("shop", "meshed", "node1", "10.244.1.60")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](1000), RunAsGroup: ptr.To[int64](1001)}
	p.Spec.Containers = []corev1.Container{{Name: "app"}, {Name: "proxy", SecurityContext: &corev1.SecurityContext{RunAsUser: ptr.To[int64](1337)}}, {Name: "late"}}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: "app", ContainerID: "containerd://aaa", State: running}, {Name: "proxy", ContainerID: "containerd://bbb", State: running},
		{Name: "late", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}},
	}
	return p
}

func TestContainerOfTheClientIsToldToTheAgent(t *testing.T) {
	annotated := meshed()
	annotated.Name, annotated.Annotations = "annotated", map[string]string{"kubectl.kubernetes.io/default-container": "proxy"}
	app := &wire.Sender{ContainerID: "containerd://aaa", Container: "app", User: ptr.To[uint32](1000), Group: ptr.To[uint32](1001)}
	proxy := &wire.Sender{ContainerID: "containerd://bbb", Container: "proxy", User: ptr.To[uint32](1337), Group: ptr.To[uint32](1001)}
	for from, want := range map[string]*wire.Sender{
		"pod/meshed": app, "pod/meshed/app": app, "pod/meshed/proxy": proxy, "pod/annotated": proxy, "node/node1": nil, "external": nil,
	} {
		_, code, walks := asked(t, newShop(meshed(), annotated), []string{from}, []string{"nodeport"})
		if code != exitOK || len(walks) == 0 {
			t.Errorf("%s: exit code %d, %d walks", from, code, len(walks))
		}
		for _, w := range walks {
			if d := cmp.Diff(want, w.Sender); d != "" {
				t.Errorf("%s: %s", from, d)
			}
		}
	}
}

func TestContainerThatDoesNotRunIsNoClient(t *testing.T) {
	out, code, walks := asked(t, newShop(meshed()), []string{"pod/meshed/late", "pod/meshed"}, []string{"clusterip"})
	if says := strings.Join(strings.Fields(out), " "); code != exitUnknown || len(walks) != 1 || !strings.Contains(says, "container late of pod shop/meshed waits (CrashLoopBackOff), so that no packet can start there") {
		t.Errorf("exit code %d, %d walks\n%s", code, len(walks), out)
	}
}

func TestAgentsMayBecomeAnotherUserOnlyForProbes(t *testing.T) {
	for _, probes := range []int{0, 1} {
		s := newShop()
		o, _, _ := s.options(t)
		o.nodes, o.probe = []string{"node1"}, probes
		o.agents.Impersonate = probes > 0
		_ = o.run(t.Context(), func(*render.Answer) error { return nil })
		for _, p := range s.Created() {
			if got := slices.Contains(p.Spec.Containers[0].SecurityContext.Capabilities.Add, "SETUID"); got != (probes > 0) {
				t.Errorf("%d probes: CAP_SETUID %t", probes, got)
			}
		}
	}
}
