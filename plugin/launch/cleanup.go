package launch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Leftover is an agent pod of any run, living or dead.
type Leftover struct {
	Namespace string
	Name      string
	Node      string
	Phase     corev1.PodPhase
	Age       time.Duration
}

// Leftovers finds the agent pods of a namespace; of all namespaces if it is empty. Errors are the API's.
func Leftovers(ctx context.Context, client kubernetes.Interface, namespace string, now time.Time) ([]Leftover, error) {
	list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: Selector})
	if err != nil {
		return nil, fmt.Errorf("listing agent pods: %w", err)
	}
	out := make([]Leftover, 0, len(list.Items))
	for i := range list.Items {
		p := &list.Items[i]
		out = append(out, Leftover{Namespace: p.Namespace, Name: p.Name, Node: p.Spec.NodeName, Phase: p.Status.Phase, Age: now.Sub(p.CreationTimestamp.Time)})
	}
	return out, nil
}

// Delete deletes leftovers, all at once.
func Delete(ctx context.Context, client kubernetes.Interface, left []Leftover) error {
	errs := make([]error, len(left))
	var wg sync.WaitGroup
	for i, l := range left {
		wg.Go(func() {
			if err := deletePod(ctx, client, l.Namespace, l.Name); err != nil {
				errs[i] = fmt.Errorf("deleting pod %s/%s: %w", l.Namespace, l.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
