// Package cluster reads the API objects that an answer needs, in as few and as parallel requests as it can, and turns the
// API's refusals into sentences with a next step.
package cluster

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// Objects are what the intent is computed from.
type Objects struct {
	Service *corev1.Service
	Slices  []discoveryv1.EndpointSlice
	Nodes   []intent.Node
	// NodeObjects are the objects behind Nodes, in the same order.
	NodeObjects []corev1.Node
}

// Read fetches a Service, its EndpointSlices and the nodes, all at once.
func Read(ctx context.Context, client kubernetes.Interface, namespace, name string) (*Objects, error) {
	var (
		out  Objects
		wg   sync.WaitGroup
		errs [3]error
	)
	wg.Go(func() {
		svc, err := client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			err = notFound(ctx, client, namespace, name)
		} else {
			err = explain(err, "get", "services", namespace)
		}
		out.Service, errs[0] = svc, err
	})
	wg.Go(func() { out.Slices, errs[1] = Slices(ctx, client, namespace, name) })
	wg.Go(func() {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			errs[2] = explain(err, "list", "nodes", "")
			return
		}
		out.NodeObjects = list.Items
		for i := range list.Items {
			out.Nodes = append(out.Nodes, intent.NodeOf(&list.Items[i]))
		}
	})
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return &out, nil
}

// Slices lists the EndpointSlices of a Service. Those of headless Services, which kube-proxy does not read, are among them.
func Slices(ctx context.Context, client kubernetes.Interface, namespace, name string) ([]discoveryv1.EndpointSlice, error) {
	list, err := client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + name,
	})
	if err != nil {
		return nil, explain(err, "list", "endpointslices.discovery.k8s.io", namespace)
	}
	return list.Items, nil
}

// PodsOn lists the pods of a node, of all namespaces; where that is not allowed, those of one namespace.
func PodsOn(ctx context.Context, client kubernetes.Interface, namespace, node string) ([]corev1.Pod, error) {
	opts := metav1.ListOptions{FieldSelector: "spec.nodeName=" + node}
	list, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, opts)
	if apierrors.IsForbidden(err) {
		list, err = client.CoreV1().Pods(namespace).List(ctx, opts)
	}
	if err != nil {
		return nil, explain(err, "list", "pods", namespace)
	}
	return list.Items, nil
}
