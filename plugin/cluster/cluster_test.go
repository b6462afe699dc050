package cluster_test

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
)

func TestMissingPermissionNamesVerbResourceAndNamespace(t *testing.T) {
	tests := map[string]struct {
		verb, resource string
		says, next     string
	}{
		"Service": {"get", "services", "no permission to get services in namespace shop", "kubectl auth can-i get services -n shop"},
		"slices":  {"list", "endpointslices", "no permission to list endpointslices.discovery.k8s.io in namespace shop", "can-i list endpointslices.discovery.k8s.io -n shop"},
		"nodes":   {"list", "nodes", "no permission to list nodes", "can-i list nodes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := fake.NewClientset(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}})
			c.PrependReactor(tt.verb, tt.resource, func(k8stesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: tt.resource}, "", errors.New("no"))
			})
			_, err := cluster.Read(t.Context(), c, "shop", "web")
			var p *cluster.Problem
			if !errors.As(err, &p) || p.Sentence != tt.says || !strings.Contains(p.Next, tt.next) || p.Input {
				t.Errorf("got %+v", err)
			}
		})
	}
}

func TestServiceThatDoesNotExistIsInputAtFault(t *testing.T) {
	c := fake.NewClientset(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}})
	_, err := cluster.Read(t.Context(), c, "shop", "weeb")
	var p *cluster.Problem
	if !errors.As(err, &p) || !p.Input || p.Next != "did you mean web?" {
		t.Errorf("got %+v", err)
	}
}

func TestPodsAreReadFromOneNamespaceWhereAllIsForbidden(t *testing.T) {
	c := fake.NewClientset(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a"}})
	c.PrependReactor("list", "pods", func(a k8stesting.Action) (bool, runtime.Object, error) {
		if a.GetNamespace() == "" {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no"))
		}
		return false, nil, nil
	})
	pods, err := cluster.PodsOn(t.Context(), c, "shop", "node1")
	if err != nil || len(pods) != 1 {
		t.Errorf("%v, %v", pods, err)
	}
}

func TestFailureOfTheAPIServerHasANextStep(t *testing.T) {
	c := fake.NewClientset()
	c.PrependReactor("get", "services", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewInternalError(errors.New("etcd is full"))
	})
	_, err := cluster.Read(t.Context(), c, "shop", "web")
	var p *cluster.Problem
	if !errors.As(err, &p) || p.Input || !strings.Contains(p.Sentence, "did not get services in namespace shop") ||
		!strings.Contains(p.Sentence, "etcd is full") || !strings.Contains(p.Next, "kubectl get --raw '/readyz?verbose'") {
		t.Errorf("got %+v", err)
	}
}
