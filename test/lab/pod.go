package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pod is one pod of a lab, as its node's container runtime has it. It is looked up anew for each use.
type Pod struct {
	*Place
	Namespace, Name string
}

// Pod is the pod with that name, which need not run yet. Run runs the programs of its first container in all of that
// container's namespaces; RunTool runs the machine's programs in the pod's network.
func (l *Lab) Pod(namespace, name string) *Pod {
	p := &Pod{Namespace: namespace, Name: name}
	p.Place = &Place{
		lab: l, name: "pod " + namespace + "/" + name, dir: "/", bare: true,
		netns: func(ctx context.Context) (string, error) {
			c, err := p.find(ctx, true)
			if err != nil {
				return "", err
			}
			return c.namespace("net"), nil
		},
		enter: func(ctx context.Context) ([]string, error) {
			c, err := p.find(ctx, false)
			if err != nil {
				return nil, err
			}
			return []string{
				"--mount=" + c.namespace("mnt"), "--pid=" + c.namespace("pid"), "--uts=" + c.namespace("uts"),
				"--ipc=" + c.namespace("ipc"), "--net=" + c.namespace("net"),
			}, nil
		},
	}
	return p
}

// container is a running container: the number of its process as its node counts, and its node's process 1 as the
// machine counts.
type container struct {
	node    string
	nodePID int
	pid     string
}

// namespace is the path, on the machine, of one of the container's namespaces.
func (c container) namespace(kind string) string {
	return fmt.Sprintf("/proc/%d/root/proc/%s/ns/%s", c.nodePID, c.pid, kind)
}

// tasksDir is where containerd keeps running containers: a directory each, with the OCI configuration and the number of
// the first process.
const tasksDir = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"

// find finds the pod's sandbox, or its first container.
func (p *Pod) find(ctx context.Context, sandbox bool) (container, error) {
	var errs []error
	for _, n := range p.lab.Nodes() {
		pid, err := p.lab.nodePID(ctx, n.Name)
		if err != nil {
			errs = append(errs, err) // a dead node has no pods
			continue
		}
		found, err := p.on(n.Name, pid, sandbox)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	what := "container"
	if sandbox {
		what = "sandbox"
	}
	return container{}, errors.Join(append(errs, fmt.Errorf("%s has no running %s on any node", p, what))...)
}

// on lists the pod's sandboxes or containers on one node.
func (p *Pod) on(node string, nodePID int, sandbox bool) ([]container, error) {
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/root%s/*", nodePID, tasksDir))
	if err != nil {
		return nil, err
	}
	var found []container
	for _, dir := range dirs {
		var spec struct {
			Annotations map[string]string `json:"annotations"`
		}
		b, err := os.ReadFile(filepath.Join(dir, "config.json"))
		if err != nil {
			continue // it has just ended
		}
		if err := json.Unmarshal(b, &spec); err != nil {
			return nil, fmt.Errorf("read container %s on %s: %w", filepath.Base(dir), node, err)
		}
		a := spec.Annotations
		const cri = "io.kubernetes.cri."
		if a[cri+"sandbox-namespace"] != p.Namespace || a[cri+"sandbox-name"] != p.Name ||
			(a[cri+"container-type"] == "sandbox") != sandbox {
			continue
		}
		pid, err := os.ReadFile(filepath.Join(dir, "init.pid"))
		if err != nil {
			continue
		}
		c := container{node: node, nodePID: nodePID, pid: strings.TrimSpace(string(pid))}
		if _, err := os.Stat(c.namespace("net")); err != nil {
			continue // its process has ended
		}
		found = append(found, c)
	}
	return found, nil
}

// RunTool runs one of the machine's programs (ip, nft, iptables, …) in the pod's network namespace, with the node's
// file system.
func (p *Pod) RunTool(ctx context.Context, program string, args ...string) (string, error) {
	return p.RunToolInput(ctx, "", program, args...)
}

// RunToolInput is RunTool with something on standard input.
func (p *Pod) RunToolInput(ctx context.Context, input, program string, args ...string) (string, error) {
	c, err := p.find(ctx, true)
	if err != nil {
		return "", fmt.Errorf("enter %s: %w", p, err)
	}
	enter := []string{fmt.Sprintf("--target=%d", c.nodePID), "--mount", "--pid", "--uts", "--net=" + c.namespace("net"), "--wdns=/"}
	argv := append([]string{program}, args...)
	return p.output(p.lab.nsenter(ctx, enter, false, argv), input, argv)
}

// Addresses are the pod's addresses, one per family, as its status has them.
func (p *Pod) Addresses(ctx context.Context) ([]netip.Addr, error) {
	pod, err := p.lab.client.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, ip := range pod.Status.PodIPs {
		addr, err := netip.ParseAddr(ip.IP)
		if err != nil {
			return nil, fmt.Errorf("read the addresses of %s: %w", p, err)
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// ClientPod makes a pod in the namespace default that does nothing, on the given node, and waits until it is ready: a
// place to connect from. Its image has the program client and busybox.
func (l *Lab) ClientPod(ctx context.Context, name string, node *Node) (*Pod, error) {
	return l.RunPod(ctx, name, node, clientPodSpec())
}

func clientPodSpec() corev1.PodSpec {
	grace := int64(1)
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{
			Name: "client", Image: ClientImage, ImagePullPolicy: corev1.PullNever,
		}},
	}
}

// RunPod makes a pod of that specification in the namespace default, labelled app=NAME, on the given node, and waits
// until it is ready.
func (l *Lab) RunPod(ctx context.Context, name string, node *Node, spec corev1.PodSpec) (*Pod, error) {
	spec.NodeName = node.Name
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault, Labels: map[string]string{"app": name}},
		Spec:       spec,
	}
	if _, err := l.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("make pod %s: %w", name, err)
	}
	if err := l.AwaitPod(ctx, pod.Namespace, name); err != nil {
		return nil, err
	}
	return l.Pod(pod.Namespace, name), nil
}

// AwaitPod waits until a pod is ready.
func (l *Lab) AwaitPod(ctx context.Context, namespace, name string) error {
	var last string
	err := until(ctx, pollEvery, func() (bool, error) {
		pod, err := l.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		last = string(pod.Status.Phase)
		for _, s := range pod.Status.ContainerStatuses {
			if w := s.State.Waiting; w != nil {
				last += fmt.Sprintf(", %s: %s %s", s.Name, w.Reason, w.Message)
			}
		}
		return podReady(pod), nil
	})
	if err != nil {
		return fmt.Errorf("wait for pod %s/%s to be ready (%s): %w", namespace, name, last, err)
	}
	return nil
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
