package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// notFound says that a Service does not exist, with what the user may have meant: names of the namespace that are near, and
// the same name in other namespaces. What may not be listed is left out.
func notFound(ctx context.Context, client kubernetes.Interface, namespace, name string) error {
	p := &Problem{
		Sentence: fmt.Sprintf("Service %s/%s does not exist", namespace, name),
		Next:     fmt.Sprintf("list the Services there: kubectl get services -n %s", namespace),
		Input:    true,
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
	near = Near(name, near)
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

// Near picks the names that are near a wanted one: one contains the other, or few edits apart. At most five, nearest first.
func Near(want string, names []string) []string {
	type scored struct {
		name string
		far  int
	}
	var out []scored
	for _, n := range names {
		far := distance(want, n)
		switch {
		case far <= max(1, len(want)/3):
		case len(want) >= 3 && strings.Contains(n, want), len(n) >= 3 && strings.Contains(want, n):
			far = len(want) + len(n)
		default:
			continue
		}
		out = append(out, scored{n, far})
	}
	slices.SortFunc(out, func(a, b scored) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var near []string
	for _, s := range out[:min(5, len(out))] {
		near = append(near, s.name)
	}
	return near
}

// distance is the number of insertions, deletions, replacements and swaps of neighbours between two names
// (the optimal string alignment distance).
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, cur := rows[(i+2)%3], rows[i%3], rows[(i+1)%3]
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
	}
	return rows[(len(a)+1)%3][len(b)]
}
