package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/nearest"
)

// Pod fetches one pod; one that does not exist is an Input problem that names pods with a like name.
func Pod(ctx context.Context, client kubernetes.Interface, namespace, name string) (*corev1.Pod, error) {
	p, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		return p, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, explain(err, "get", "pods", namespace)
	}
	problem := &Problem{
		Sentence: fmt.Sprintf("pod %s/%s does not exist", namespace, name),
		Next:     "list the pods there: kubectl get pods -n " + namespace,
		Input:    true,
	}
	if list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{}); err == nil {
		var names []string
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		if near := nearest.Names(name, names); len(near) > 0 {
			problem.Next = "did you mean " + strings.Join(near, ", ") + "?"
		}
	}
	return nil, problem
}

// workloads are the kinds that have pods, by the names that kubectl takes for them.
var workloads = map[string]string{
	"deploy": "deployments", "deployment": "deployments", "deployments": "deployments",
	"sts": "statefulsets", "statefulset": "statefulsets", "statefulsets": "statefulsets",
	"ds": "daemonsets", "daemonset": "daemonsets", "daemonsets": "daemonsets",
	"rs": "replicasets", "replicaset": "replicasets", "replicasets": "replicasets",
	"rc": "replicationcontrollers", "replicationcontroller": "replicationcontrollers", "replicationcontrollers": "replicationcontrollers",
	"job": "jobs", "jobs": "jobs",
}

// WorkloadResource is the resource of a workload's kind as users write it.
func WorkloadResource(kind string) (string, bool) {
	r, ok := workloads[kind]
	return r, ok
}

// PodOf picks a pod of a workload: a running one, by name the first; if none runs, one that does not.
func PodOf(ctx context.Context, client kubernetes.Interface, namespace, resource, name string) (*corev1.Pod, error) {
	what := fmt.Sprintf("%s %s/%s", strings.TrimSuffix(resource, "s"), namespace, name)
	sel, err := selectorOf(ctx, client, namespace, resource, name)
	if apierrors.IsNotFound(err) {
		return nil, &Problem{Sentence: what + " does not exist", Next: fmt.Sprintf("list what is there: kubectl get %s -n %s", resource, namespace), Input: true}
	}
	if err != nil {
		return nil, explain(err, "get", resource, namespace)
	}
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return nil, &Problem{Sentence: what + " has a selector that cannot be read: " + err.Error(), Err: err}
	}
	list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: s.String()})
	if err != nil {
		return nil, explain(err, "list", "pods", namespace)
	}
	if len(list.Items) == 0 || sel == nil {
		return nil, &Problem{Sentence: what + " has no pods, so that no packet can start there", Next: fmt.Sprintf("see kubectl describe %s -n %s %s", resource, namespace, name)}
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int {
		if x, y := NotRunning(&a) == "", NotRunning(&b) == ""; x != y {
			if x {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return &list.Items[0], nil
}

func selectorOf(ctx context.Context, client kubernetes.Interface, namespace, resource, name string) (*metav1.LabelSelector, error) {
	get := metav1.GetOptions{}
	switch resource {
	case "deployments":
		w, err := client.AppsV1().Deployments(namespace).Get(ctx, name, get)
		if err != nil {
			return nil, err
		}
		return w.Spec.Selector, nil
	case "statefulsets":
		w, err := client.AppsV1().StatefulSets(namespace).Get(ctx, name, get)
		if err != nil {
			return nil, err
		}
		return w.Spec.Selector, nil
	case "daemonsets":
		w, err := client.AppsV1().DaemonSets(namespace).Get(ctx, name, get)
		if err != nil {
			return nil, err
		}
		return w.Spec.Selector, nil
	case "replicasets":
		w, err := client.AppsV1().ReplicaSets(namespace).Get(ctx, name, get)
		if err != nil {
			return nil, err
		}
		return w.Spec.Selector, nil
	case "jobs":
		w, err := client.BatchV1().Jobs(namespace).Get(ctx, name, get)
		if err != nil {
			return nil, err
		}
		return w.Spec.Selector, nil
	default:
		w, err := client.CoreV1().ReplicationControllers(namespace).Get(ctx, name, get)
		if err != nil {
			return nil, err
		}
		return &metav1.LabelSelector{MatchLabels: w.Spec.Selector}, nil
	}
}

// NotRunning says why no packet can start in a pod; empty when one can.
func NotRunning(p *corev1.Pod) string {
	what := fmt.Sprintf("pod %s/%s", p.Namespace, p.Name)
	switch {
	case p.DeletionTimestamp != nil:
		return what + " is being deleted"
	case p.Spec.NodeName == "":
		return what + " is not scheduled to any node"
	case p.Status.Phase != corev1.PodRunning:
		why := p.Status.Reason
		for _, c := range p.Status.ContainerStatuses {
			if c.State.Waiting != nil && c.State.Waiting.Reason != "" {
				why = c.State.Waiting.Reason
			}
		}
		if why != "" {
			why = " (" + why + ")"
		}
		return fmt.Sprintf("%s is %s%s, not Running", what, p.Status.Phase, why)
	case len(p.Status.PodIPs) == 0 && !p.Spec.HostNetwork:
		return what + " has no address yet"
	}
	return ""
}

// ContainerNotRunning says in one sentence why no packet can start in a container of a running pod; empty when one can.
func ContainerNotRunning(p *corev1.Pod, name string) string {
	what := fmt.Sprintf("container %s of pod %s/%s", name, p.Namespace, p.Name)
	for _, c := range append(slices.Clone(p.Status.ContainerStatuses), p.Status.InitContainerStatuses...) {
		if c.Name != name {
			continue
		}
		switch {
		case c.State.Running != nil:
			return ""
		case c.State.Waiting != nil:
			return fmt.Sprintf("%s waits (%s)", what, c.State.Waiting.Reason)
		case c.State.Terminated != nil:
			return fmt.Sprintf("%s has ended (%s)", what, c.State.Terminated.Reason)
		}
	}
	return what + " does not run yet"
}
