package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/nearest"
)

// notFound says that a Service does not exist, with what the user may have meant: names of the namespace that are near, and
// the same name in other namespaces. What may not be listed is left out.
func notFound(ctx context.Context, client kubernetes.Interface, namespace, name string) error {
	p := &Problem{
		Sentence: fmt.Sprintf("Service %s/%s does not exist", namespace, name),
		Next:     fmt.Sprintf("list the Services there: kubectl get services -n %s", namespace),
		Input:    true,
	}
	if _, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		p.Sentence += ": there is no namespace " + namespace
		p.Next = "list the namespaces: kubectl get namespaces"
	}
	var near, elsewhere []string
	if list, err := client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{}); err == nil {
		for i := range list.Items {
			s := &list.Items[i]
			switch {
			case s.Namespace == namespace:
				near = append(near, s.Name)
			case s.Name == name:
				elsewhere = append(elsewhere, s.Namespace+"/"+s.Name)
			}
		}
	} else if list, err := client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{}); err == nil {
		for i := range list.Items {
			near = append(near, list.Items[i].Name)
		}
	}
	near = nearest.Names(name, near)
	slices.Sort(elsewhere)
	if len(elsewhere) > 5 {
		elsewhere = append(elsewhere[:5], "…")
	}
	switch {
	case len(near) > 0 && len(elsewhere) > 0:
		p.Next = fmt.Sprintf("did you mean %s, or %s in another namespace (-n)?", strings.Join(near, ", "), strings.Join(elsewhere, ", "))
	case len(near) > 0:
		p.Next = fmt.Sprintf("did you mean %s?", strings.Join(near, ", "))
	case len(elsewhere) > 0:
		ns, _, _ := strings.Cut(elsewhere[0], "/")
		p.Next = fmt.Sprintf("did you mean %s? Choose the namespace with -n %s", strings.Join(elsewhere, ", "), ns)
	}
	return p
}
