package launchtest

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

// Cluster is an API server with kubelets that take pods up at once, and agents by node.
type Cluster struct {
	Client *fake.Clientset
	Agents map[string]*Agent
	// Status is the status that the kubelet of a node gives to an agent pod; nil is a running one.
	Status func(node string) corev1.PodStatus
	// AttachError is what every attempt to attach fails with.
	AttachError error

	turn     sync.Mutex // of the agent that answers
	mu       sync.Mutex
	pods     map[string]*corev1.Pod // by namespace/name
	created  []*corev1.Pod
	watchers []*watch.RaceFreeFakeWatcher
}

// NewCluster returns a cluster that holds objects.
func NewCluster(objects ...runtime.Object) *Cluster {
	c := &Cluster{Client: fake.NewClientset(objects...), Agents: map[string]*Agent{}, pods: map[string]*corev1.Pod{}}
	c.Client.PrependReactor("create", "pods", c.create)
	c.Client.PrependReactor("delete", "pods", c.delete)
	c.Client.PrependWatchReactor("pods", c.watch)
	return c
}

// Running is the status of a pod whose agent runs.
func Running() corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "agent", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}}}
}

// Waiting is the status of a pod whose agent waits for a reason.
func Waiting(reason, message string) corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "agent", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
	}}}
}

// Left are the agent pods that exist.
func (c *Cluster) Left() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for name := range c.pods {
		out = append(out, name)
	}
	return out
}

// Created are the agent pods that were ever made.
func (c *Cluster) Created() []*corev1.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*corev1.Pod(nil), c.created...)
}

func (c *Cluster) create(action k8stesting.Action) (bool, runtime.Object, error) {
	pod := action.(k8stesting.CreateAction).GetObject().(*corev1.Pod).DeepCopy()
	c.mu.Lock()
	defer c.mu.Unlock()
	pod.Status = Running()
	if c.Status != nil {
		pod.Status = c.Status(pod.Spec.NodeName)
	}
	c.pods[pod.Namespace+"/"+pod.Name] = pod
	c.created = append(c.created, pod)
	for _, w := range c.watchers {
		w.Add(pod.DeepCopy())
	}
	return true, pod, nil
}

func (c *Cluster) delete(action k8stesting.Action) (bool, runtime.Object, error) {
	d := action.(k8stesting.DeleteAction)
	c.mu.Lock()
	defer c.mu.Unlock()
	key := d.GetNamespace() + "/" + d.GetName()
	pod := c.pods[key]
	if pod == nil {
		return false, nil, nil
	}
	delete(c.pods, key)
	for _, w := range c.watchers {
		if !w.IsStopped() {
			w.Delete(pod.DeepCopy())
		}
	}
	return true, nil, nil
}

func (c *Cluster) watch(k8stesting.Action) (bool, watch.Interface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := watch.NewRaceFreeFake()
	for _, p := range c.pods {
		w.Add(p.DeepCopy())
	}
	c.watchers = append(c.watchers, w)
	return true, w, nil
}

func (c *Cluster) nodeOf(namespace, pod string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pods[namespace+"/"+pod]; p != nil {
		return p.Spec.NodeName
	}
	return ""
}
