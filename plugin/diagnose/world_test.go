package diagnose_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/apistate"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// world is a healthy cluster: three nodes, Service shop/web with two endpoints, and everything around it.
type world struct {
	*apistate.State
	nodes []*survey.Node
}

func newWorld() *world {
	w := &world{State: &apistate.State{Read: apistate.Sources{Pods: true, Services: true, ServiceCIDRs: true, Addresses: true, Events: true}}}
	w.Service = &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.25", ClusterIPs: []string{"10.96.0.25"}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	w.Pods = []corev1.Pod{worldPod("web-1", "node1", "10.244.1.10"), worldPod("web-2", "node2", "10.244.2.10"), worldPod("client", "node3", "10.244.3.9")}
	w.Pods[2].Labels = map[string]string{"run": "client"}
	w.Slices = []discoveryv1.EndpointSlice{worldSlice("web-abc", &w.Pods[0], &w.Pods[1])}
	w.SlicesAgain = w.Slices
	for i := 1; i <= 3; i++ {
		w.Nodes = append(w.Nodes, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node%d", i), Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i)}},
			Spec:       corev1.NodeSpec{PodCIDRs: []string{fmt.Sprintf("10.244.%d.0/24", i)}},
			Status: corev1.NodeStatus{
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.250.0.1%d", i)}},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		})
	}
	w.Services = []corev1.Service{*w.Service, {
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "other"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.26", ClusterIPs: []string{"10.96.0.26"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}}
	w.ServiceCIDRs = []networkingv1.ServiceCIDR{{Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}}}
	w.Addresses = []networkingv1.IPAddress{{ObjectMeta: metav1.ObjectMeta{Name: "10.96.0.25"}}}
	return w
}

func worldPod(name, node, ip string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "web", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

// worldSlice lists pods as ready on port 8080.
func worldSlice(name string, pods ...*corev1.Pod) discoveryv1.EndpointSlice {
	s := discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{
			discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	for _, p := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.Status.PodIPs[0].IP}, NodeName: ptr.To(p.Spec.NodeName), Zone: ptr.To("zone-" + p.Spec.NodeName[4:]),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: p.Name, UID: p.UID},
		})
	}
	return s
}

// unready makes a pod not ready, in its status and in the slice.
func (w *world) unready(i int) {
	w.Pods[i].Status.Conditions[0] = corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Message: "containers with unready status: [web]"}
	w.Slices[0].Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(false), Terminating: ptr.To(false)}
}

// manual takes the selector away: the slice is someone's own, and names no pods.
func (w *world) manual() {
	w.Service.Spec.Selector = nil
	w.Slices[0].Labels[discoveryv1.LabelManagedBy] = "someone"
	for i := range w.Slices[0].Endpoints {
		w.Slices[0].Endpoints[i].TargetRef, w.Slices[0].Endpoints[i].NodeName = nil, nil
	}
}

// loadBalancer makes the Service one with an address.
func (w *world) loadBalancer(ips ...string) {
	w.Service.Spec.Type = corev1.ServiceTypeLoadBalancer
	for _, ip := range ips {
		w.Service.Status.LoadBalancer.Ingress = append(w.Service.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
}

// dualStack gives the Service an address of IPv6 too.
func (w *world) dualStack() {
	w.Service.Spec.ClusterIPs = []string{"10.96.0.25", "fd00:96::25"}
	w.ServiceCIDRs[0].Spec.CIDRs = append(w.ServiceCIDRs[0].Spec.CIDRs, "fd00:96::/112")
	w.Addresses = append(w.Addresses, networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "fd00:96::25"}})
}

// find diagnoses the world.
func (w *world) find(t *testing.T) []diagnose.Finding {
	t.Helper()
	var nodes []intent.Node
	for i := range w.Nodes {
		nodes = append(nodes, intent.NodeOf(&w.Nodes[i]))
	}
	m, err := intent.Build(w.Service, w.Slices, nodes)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range w.nodes {
		n.Node, _ = m.Node(n.Name)
	}
	return diagnose.Compare(m, w.nodes, w.State).Findings
}
