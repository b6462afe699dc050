package faults

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

func dualStack(s *corev1.Service) {
	s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = new(corev1.IPFamilyPolicyRequireDualStack), []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
}

func sliceAsIs(*bed, *discoveryv1.EndpointSlice) {}

// atNode2 puts the pod on node2 in the place of the one on node1.
func atNode2(b *bed, x *discoveryv1.EndpointSlice) {
	x.Endpoints[0].Addresses, x.Endpoints[0].NodeName = []string{b.podOn("node2").Status.PodIP}, new("node2")
}

// apiFaults are mistakes in Services, EndpointSlices and Nodes that node tests e2e does not make.
var apiFaults = []fault{
	{
		name: "a dual-stack Service with endpoints of one family", want: "family-without-endpoints", service: "half", hence: []string{"no-ready-endpoints"},
		cause: objects("half", both(manual, dualStack), sliceAsIs), repair: remove("half"),
		real: sequence(endIn("half", true, []lab.Result{lab.Refused, lab.Timeout, lab.Unreachable}), end("half", answered)), sees: "IPv6 clients get nowhere, IPv4 clients are answered",
		mend: changed("half", func(s *corev1.Service) {
			s.Spec.IPFamilyPolicy, s.Spec.IPFamilies, s.Spec.ClusterIPs = new(corev1.IPFamilyPolicySingleStack), s.Spec.IPFamilies[:1], s.Spec.ClusterIPs[:1]
		}),
		proof: []string{"IPv6"},
	},
	{
		name: "the last endpoint terminates", want: "terminating-endpoints-only", service: "ending",
		cause: objects("ending", manual, func(_ *bed, x *discoveryv1.EndpointSlice) {
			x.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
		}), repair: remove("ending"),
		real: end("ending", answered), sees: "connections are answered by an endpoint that terminates",
		mend: reslice("ending", 1, func(_ *bed, x *discoveryv1.EndpointSlice) {
			x.Endpoints[0].Conditions = discoveryv1.EndpointConditions{}
		}),
		proof: []string{"terminating"},
	},
	{
		name: "an old EndpointSlice beside the controller's", want: "slices-of-two-managers", service: "mixed",
		cause:  objects("mixed", asIs, func(_ *bed, x *discoveryv1.EndpointSlice) { x.Endpoints[0].Addresses = []string{"10.244.1.233"} }),
		repair: remove("mixed"), real: someFail("mixed"), mend: unslice("mixed", 1),
		proof: []string{"somebody manages", "endpointslice-controller.k8s.io manages"},
	},
	{
		name: "one address for two pods in the EndpointSlices", want: "duplicate-endpoint", service: "twice",
		cause: sequence(pending("waiting"), objects("twice", manual, podRef("web"), podRef("waiting"))), repair: sequence(remove("twice"), deletePod("waiting")),
		real: end("twice", answered), sees: "kube-proxy keeps one of the two", mend: unslice("twice", 2),
		proof: []string{"stands in the EndpointSlices for two pods"},
	},
	{
		name: "targetPort of a Service without selector", want: "manual-slice-port-differs", service: "moved",
		cause:  objects("moved", both(manual, func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(9090) }), sliceAsIs),
		repair: remove("moved"), real: end("moved", answered), sees: "the EndpointSlice's port is used, not targetPort",
		mend:  changed("moved", func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(lab.WebPort) }),
		proof: []string{"targetPort 9090"},
	},
	{
		name: "an Endpoints object that was cut", want: "endpoints-object-truncated", service: "large", quiet: true,
		cause: sequence(objects("large", manual, sliceAsIs), cutEndpoints("large")), repair: remove("large"),
		sees: "the annotation that the controller writes beyond 1,000 addresses, written by hand", proof: []string{"truncated"},
	},
	{
		name: "a node that died under ready endpoints", want: "endpoint-on-dead-node", service: "haunted",
		cause: sequence(ghost, objects("haunted", manual, sliceAsIs, func(_ *bed, x *discoveryv1.EndpointSlice) {
			x.Endpoints[0].Addresses, x.Endpoints[0].NodeName = []string{"10.244.9.9"}, new("ghost")
		})), repair: sequence(remove("haunted"), exorcise),
		real: someFail("haunted"), mend: unslice("haunted", 2), proof: []string{"node ghost"},
	},
	{
		name: "the label of another proxy", want: "left-to-another-proxy", service: "foreign",
		cause: objects("foreign", func(s *corev1.Service) {
			s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "none-such"}
		}),
		repair: remove("foreign"), real: end("foreign", []lab.Result{lab.Timeout, lab.Unreachable, lab.Refused}),
		mend: changed("foreign", func(s *corev1.Service) { s.Labels = nil }), proof: []string{"none-such"},
	},
	{
		name: "more sticky clients than the kernel remembers", want: "affinity-list-full", node: 1, service: "sticky",
		cause: sequence(objects("sticky", both(manual, func(s *corev1.Service) {
			s.Spec.SessionAffinity, s.Spec.ClusterIP = corev1.ServiceAffinityClientIP, "10.96.0.81"
		}), sliceAsIs), manyClients("10.96.0.81", 103)),
		repair: sequence(remove("sticky"), fewClients), sees: "103 clients of one endpoint, of which the kernel's list keeps 100",
		proof: []string{"clients have flows"},
	},
	{
		name: "hints that nobody could give", want: "hints-ignored", service: "nearby", quiet: true,
		cause: objects("nearby", func(s *corev1.Service) {
			s.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferSameZone)
		}),
		repair: remove("nearby"), real: end("nearby", answered), sees: "connections go to endpoints on all nodes",
		mend: changed("nearby", func(s *corev1.Service) { s.Spec.TrafficDistribution = nil }), proof: []string{"no hint"},
	},
	{
		name: "hints that send a node to one of three endpoints", want: "hints-concentrate", service: "crowded", quiet: true,
		cause: objects("crowded", both(manual, func(s *corev1.Service) { s.Spec.TrafficDistribution = new("PreferSameNode") }), hinted, func(b *bed, x *discoveryv1.EndpointSlice) {
			atNode2(b, x)
			x.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: "node2"}}}
		}),
		repair: remove("crowded"), beside: []string{"target-port-not-listening"}, real: onePod("crowded", 2), sees: "every connection from node2 goes to one pod of three endpoints",
		mend: changed("crowded", func(s *corev1.Service) { s.Spec.TrafficDistribution = nil }), proof: []string{"node2"},
	},
	{
		name: "internalTrafficPolicy Local on a node without endpoints", want: "no-local-endpoints", node: 3, service: "inside", quiet: true,
		cause: sequence(newService("inside", func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
		}), wait(time.Second)), repair: remove("inside"),
		real: sequence(end("inside", silent, 3), end("inside", answered, 1, 2)), sees: "connections time out on node3 and are answered on the others",
		mend: changed("inside", func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyCluster)
		}),
		proof: []string{"internalTrafficPolicy is Local", "usable endpoints are on"},
	},
	{
		name: "externalTrafficPolicy Local on a node without endpoints", want: "external-policy-local", node: 3, service: "outer", quiet: true,
		cause: sequence(newService("outer", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, corev1.ServiceExternalTrafficPolicyLocal, 30083
		}), wait(time.Second)), repair: remove("outer"),
		real: nodePortFails(outside, 30083), sees: "connections from outside to node3 time out, as the policy asks", proof: []string{"as asked"},
	},
}

// someFail requires that a part of the connections from a client pod on each node fails.
func someFail(name string) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		to, err := b.addressOf(ctx, name, false)
		if err != nil {
			return err
		}
		return fails(clientPod, to)(ctx, b, n)
	}
}

// onePod requires that all connections from a node's client pod go to one pod.
func onePod(name string, node int) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		to, err := b.addressOf(ctx, name, false)
		if err != nil {
			return err
		}
		got, err := b.clients[node-1].Connect(ctx, to, lab.ConnectOptions{Count: 16})
		if err == nil && (!got.All(lab.Answered) || len(got.ByPod()) != 1) {
			err = fmt.Errorf("%v, by %v", got.ByResult(), got.ByPod())
		}
		return err
	}
}

// hinted are the pod on node1, and again under a port that nobody listens on, with hints for node1.
func hinted(b *bed, x *discoveryv1.EndpointSlice) {
	x.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: "node1"}}}
	second := *x.Endpoints[0].DeepCopy()
	second.Addresses = []string{b.clientAddress()}
	x.Endpoints = append(x.Endpoints, second)
}

// clientAddress is that of the client pod on node1.
func (b *bed) clientAddress() string { return b.clientIP(context.Background()) }

// pending makes a pod that no node can take.
func pending(name string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: lab.WebPodSpec()}
		p.Spec.NodeSelector = map[string]string{"none": "such"}
		_, err := b.client.CoreV1().Pods(namespace).Create(ctx, p, metav1.CreateOptions{})
		return err
	}
}

func deletePod(name string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		return b.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	}
}

// podRef lets the endpoint be a pod's: web's on node1, or another one.
func podRef(name string) sliceChange {
	return func(b *bed, x *discoveryv1.EndpointSlice) {
		ref := &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: name}
		if name == "web" {
			p := b.podOn("node1")
			ref.Name, ref.UID = p.Name, p.UID
		}
		x.Endpoints[0].TargetRef = ref
	}
}

// cutEndpoints writes the annotation that the endpoints controller gives an object that it cut.
func cutEndpoints(name string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		//lint:ignore SA1019 the deprecated object is what it is about
		_, err := b.client.CoreV1().Endpoints(namespace).Create(ctx, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name,
			Labels:      map[string]string{discoveryv1.LabelSkipMirror: "true"},
			Annotations: map[string]string{corev1.EndpointsOverCapacity: "truncated"}},
		}, metav1.CreateOptions{})
		return err
	}
}

// ghost is a Node that no kubelet reports for, as the API has one some minutes after it died.
func ghost(ctx context.Context, b *bed, _ *lab.Node) error {
	nodes := b.client.CoreV1().Nodes()
	n, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "ghost"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	for range 5 { // controllers write to it too
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", Message: "Kubelet stopped posting node status."}}
		if _, err = nodes.UpdateStatus(ctx, n, metav1.UpdateOptions{}); err == nil {
			return nil
		}
		if n, err = nodes.Get(ctx, "ghost", metav1.GetOptions{}); err != nil {
			return err
		}
	}
	return errors.New("the Node object never rests")
}

func exorcise(ctx context.Context, b *bed, _ *lab.Node) error {
	return b.client.CoreV1().Nodes().Delete(ctx, "ghost", metav1.DeleteOptions{})
}

// manyClients connects from so many addresses of the client pod's network.
func manyClients(to string, count int) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		pod := b.clients[n.Index-1]
		if _, err := pod.RunTool(ctx, "sh", "-ec", fmt.Sprintf("for i in $(seq 120 %d); do ip addr add 10.244.1.$i/32 dev eth0; done", 120+count)); err != nil {
			return err
		}
		for i := range count {
			from := netip.AddrFrom4([4]byte{10, 244, 1, byte(120 + i)})
			got, err := pod.Connect(ctx, netip.AddrPortFrom(netip.MustParseAddr(to), 80), lab.ConnectOptions{Local: netip.AddrPortFrom(from, 0)})
			if err != nil || !got.All(lab.Answered) {
				return fmt.Errorf("from %s: %v, %w", from, got.ByResult(), err)
			}
		}
		return nil
	}
}

func fewClients(ctx context.Context, b *bed, n *lab.Node) error {
	_, err := b.clients[n.Index-1].RunTool(ctx, "sh", "-c", "for i in $(seq 120 240); do ip addr del 10.244.1.$i/32 dev eth0 2>/dev/null; done; true")
	return err
}

var jsonPatch = types.JSONPatchType
