package faults

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// serviceChange and sliceChange make a fault of what would be right.
type (
	serviceChange = func(*corev1.Service)
	sliceChange   = func(*bed, *discoveryv1.EndpointSlice)
)

// objects makes a Service, which selects the pods of web, and hand-made EndpointSlices with the pod on node1, and lets
// kube-proxy write.
func objects(name string, change serviceChange, slices ...sliceChange) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": lab.DemoName}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(lab.WebPort)}},
		}}
		change(s)
		made, err := b.client.CoreV1().Services(namespace).Create(ctx, s, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if len(s.Status.LoadBalancer.Ingress) > 0 {
			made.Status = s.Status
			if _, err := b.client.CoreV1().Services(namespace).UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		for i, change := range slices {
			pod := b.podOn("node1")
			x := &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", name, i+1), Labels: map[string]string{
					discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "somebody"}},
				AddressType: discoveryv1.AddressTypeIPv4,
				Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(lab.WebPort)), Protocol: new(corev1.ProtocolTCP)}},
				Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{pod.Status.PodIP}, NodeName: new("node1")}},
			}
			change(b, x)
			if _, err := b.client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, x, metav1.CreateOptions{}); err != nil {
				return err
			}
		}
		return written(ctx, b, n)
	}
}

// asIs changes nothing.
func asIs(*corev1.Service) {}

// manual takes the selector away: the EndpointSlices are someone's own.
func manual(s *corev1.Service) { s.Spec.Selector = nil }

// both makes several changes.
func both(changes ...serviceChange) serviceChange {
	return func(s *corev1.Service) {
		for _, c := range changes {
			c(s)
		}
	}
}

// remove deletes a Service and the EndpointSlices that were made for it.
func remove(name string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		err := b.client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil {
			return err
		}
		return b.client.DiscoveryV1().EndpointSlices(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	}
}

// changed changes a Service that is there, and lets kube-proxy write.
func changed(name string, change serviceChange) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		s, err := b.client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(s)
		if _, err := b.client.CoreV1().Services(namespace).Update(ctx, s, metav1.UpdateOptions{}); err != nil {
			return err
		}
		return written(ctx, b, n)
	}
}

// reslice changes the hand-made EndpointSlice of a number.
func reslice(name string, number int, change sliceChange) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		api := b.client.DiscoveryV1().EndpointSlices(namespace)
		x, err := api.Get(ctx, fmt.Sprintf("%s-%d", name, number), metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(b, x)
		if _, err := api.Update(ctx, x, metav1.UpdateOptions{}); err != nil {
			return err
		}
		return written(ctx, b, n)
	}
}

// unslice deletes it.
func unslice(name string, number int) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		if err := b.client.DiscoveryV1().EndpointSlices(namespace).Delete(ctx, fmt.Sprintf("%s-%d", name, number), metav1.DeleteOptions{}); err != nil {
			return err
		}
		return written(ctx, b, n)
	}
}

// written waits until every kube-proxy says that it has written the last change: a moment for the change to reach it, and
// as long as it takes on a busy machine. One that is stopped says nothing, and one that fails is not waited for.
func written(ctx context.Context, b *bed, n *lab.Node) error {
	if err := wait(500*time.Millisecond)(ctx, b, n); err != nil {
		return err
	}
	for range 20 {
		writing := false
		for _, a := range b.agents {
			answer, err := a.Ask(ctx, wire.Request{Facts: &wire.FactsRequest{}})
			if err != nil {
				return err
			}
			node := survey.Node{Facts: answer.Facts}
			writing = writing || answer.Facts != nil && answer.Facts.KubeProxy.Failures == 0 && node.Writing()
		}
		if !writing {
			return nil
		}
		if err := wait(300*time.Millisecond)(ctx, b, n); err != nil {
			return err
		}
	}
	return nil
}

// addressOf is a Service's address of a family: its ClusterIP, or the one of its load balancer.
func (b *bed) addressOf(ctx context.Context, name string, v6 bool) (netip.AddrPort, error) {
	s, err := b.client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, ip := range s.Spec.ClusterIPs {
		if a := netip.MustParseAddr(ip); a.Is6() == v6 {
			return netip.AddrPortFrom(a, uint16(s.Spec.Ports[0].Port)), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%s has no such address: %v", name, s.Spec.ClusterIPs)
}

// end requires that connections of client pods on some nodes, or all, to a Service's ClusterIP end in one of the ways.
func end(name string, want []lab.Result, nodes ...int) step {
	return endIn(name, false, want, nodes...)
}

func endIn(name string, v6 bool, want []lab.Result, nodes ...int) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		to, err := b.addressOf(ctx, name, v6)
		if err != nil {
			return err
		}
		for _, n := range b.Nodes() {
			if len(nodes) > 0 && !slices.Contains(nodes, n.Index) {
				continue
			}
			got, err := b.clients[n.Index-1].Connect(ctx, to, lab.ConnectOptions{Count: 4, Timeout: 700 * time.Millisecond})
			if err != nil {
				return err
			}
			for result := range got.ByResult() {
				if slices.Contains(want, result) {
					continue
				}
				return fmt.Errorf("connections from a pod on %s to %s end %v, want %v", n, to, got.ByResult(), want)
			}
		}
		return nil
	}
}

// answers requires that connections from a place to an address are answered.
func answers(who from, to netip.AddrPort) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		got, err := who(b, n).Connect(ctx, to, lab.ConnectOptions{Count: 4, Timeout: 2 * time.Second})
		if err == nil && !got.All(lab.Answered) {
			err = fmt.Errorf("connections from %s to %s end %v", who(b, n), to, got.ByResult())
		}
		return err
	}
}

var (
	refused  = []lab.Result{lab.Refused}
	silent   = []lab.Result{lab.Timeout, lab.Unreachable}
	answered = []lab.Result{lab.Answered}
)
