// Package launch runs agents: it makes one pod on each node that is asked about, attaches to it as soon as its container
// runs, carries the conversation of package wire, and deletes the pods on every way out.
package launch

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// What every agent pod carries, so that policies can allow it and cleanup can find it.
const (
	// NamePrefix begins the name of every agent pod.
	NamePrefix = "svctrace-agent-"
	// Selector finds every agent pod, of every run.
	Selector = "app.kubernetes.io/name=svctrace-agent,app.kubernetes.io/managed-by=kubectl-svctrace"
	// RunLabel holds the ID of the run that made the pod.
	RunLabel = "svctrace.dev/run"
	// ContainerName is the name of the agent's container.
	ContainerName = "agent"
)

// Profile is how much an agent pod is allowed.
type Profile string

// The profiles.
const (
	// NetAdmin: the host's network and process IDs, and the capabilities that the reads need, no others.
	NetAdmin Profile = "netadmin"
	// Privileged: a privileged container, for clusters whose security modules stop the other.
	Privileged Profile = "privileged"
)

// ParseProfile reads a profile.
func ParseProfile(s string) (Profile, error) {
	switch p := Profile(s); p {
	case NetAdmin, Privileged:
		return p, nil
	}
	return "", fmt.Errorf("unknown profile %q: use %s or %s", s, NetAdmin, Privileged)
}

// Options say how agent pods are made.
type Options struct {
	// Namespace is where they are made.
	Namespace string
	Image     string
	// PullPolicy is Always, IfNotPresent or Never; empty leaves it to the API server.
	PullPolicy corev1.PullPolicy
	// PullSecrets name secrets of the namespace that hold registry credentials.
	PullSecrets []string
	Profile     Profile
	// Impersonate lets agents open connections as the user and group of a client (CAP_SETUID and CAP_SETGID).
	Impersonate bool
	// Timeout bounds the start of the pods; the pods themselves end a little after it whatever happens.
	Timeout time.Duration
}

// podFor is the agent pod of one run on one node.
func podFor(o Options, run, node string) *corev1.Pod {
	deadline := int64((o.Timeout + time.Minute).Seconds())
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:      podName(run, node),
			Namespace: o.Namespace,
			Labels: map[string]string{
				"app.kubernetes.io/name":       "svctrace-agent",
				"app.kubernetes.io/managed-by": "kubectl-svctrace",
				RunLabel:                       run,
			},
		},
		Spec: corev1.PodSpec{
			NodeName:                      node,
			HostNetwork:                   true,
			HostPID:                       true,
			RestartPolicy:                 corev1.RestartPolicyNever,
			ActiveDeadlineSeconds:         &deadline,
			TerminationGracePeriodSeconds: ptr.To[int64](0),
			AutomountServiceAccountToken:  ptr.To(false),
			EnableServiceLinks:            ptr.To(false),
			DNSPolicy:                     corev1.DNSDefault,
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				Name:            ContainerName,
				Image:           o.Image,
				ImagePullPolicy: o.PullPolicy,
				Args:            []string{"serve"},
				Stdin:           true,
				StdinOnce:       true,
				SecurityContext: securityContext(o.Profile, o.Impersonate),
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{
						corev1.ResourceCPU:    resource.MustParse("10m"),
						corev1.ResourceMemory: resource.MustParse("32Mi"),
					},
					Limits: corev1.ResourceList{
						corev1.ResourceCPU:    resource.MustParse("1"),
						corev1.ResourceMemory: resource.MustParse("512Mi"),
					},
				},
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			}},
		},
	}
	for _, s := range o.PullSecrets {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	return pod
}

func securityContext(p Profile, impersonate bool) *corev1.SecurityContext {
	out := &corev1.SecurityContext{
		RunAsUser:              ptr.To[int64](0),
		RunAsNonRoot:           ptr.To(false),
		ReadOnlyRootFilesystem: ptr.To(true),
	}
	if p == Privileged {
		out.Privileged = ptr.To(true)
		return out
	}
	out.Capabilities = &corev1.Capabilities{
		Drop: []corev1.Capability{"ALL"},
		// SYS_ADMIN: entering other network namespaces, and BPF, by which the kernel's lists of hooks and its table of flows are
		// read. CAP_BPF and CAP_PERFMON would do for BPF alone, but runtimes and kernels before 5.8 do not know them.
		// DAC_READ_SEARCH: which process of another user holds a socket stands in /proc/PID/fd, which only that user may list.
		Add: []corev1.Capability{"NET_ADMIN", "NET_RAW", "SYS_PTRACE", "SYS_ADMIN", "DAC_READ_SEARCH"},
	}
	if impersonate {
		out.Capabilities.Add = append(out.Capabilities.Add, "SETUID", "SETGID")
	}
	return out
}

// podName begins with the prefix and ends with the run, so that names of two runs never meet; the node in between is for
// people and may be cut.
func podName(run, node string) string {
	const most = 63 - len(NamePrefix) - 1
	if room := most - len(run); len(node) > room {
		node = strings.TrimRight(node[:room], "-.")
	}
	return NamePrefix + node + "-" + run
}
