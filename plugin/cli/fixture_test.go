package cli

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/ptr"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch/launchtest"
)

// shop is a cluster of two nodes with a Service web of two endpoints, and kernels that translate to given endpoints.
type shop struct {
	*launchtest.Cluster
	kernels map[string]*kernel
}

func newShop(objects ...runtime.Object) *shop {
	objects = append(objects, webService(), webSlice("10.244.1.10", "10.244.2.15"), node("node1", 1, true), node("node2", 2, true),
		pod("shop", "client", "node1", "10.244.1.20"), pod("shop", "web-7d4b9c5f6d-x2x4z", "node1", "10.244.1.10"), pod("shop", "web-7d4b9c5f6d-9xkqp", "node2", "10.244.2.15"),
		pod("shop", "web-7d4b9c5f6d-third", "node1", "10.244.1.30"))
	s := &shop{Cluster: launchtest.NewCluster(objects...), kernels: map[string]*kernel{}}
	for i, name := range []string{"node1", "node2"} {
		k := &kernel{endpoints: []string{"10.244.1.10:8080", "10.244.2.15:8080"}}
		s.kernels[name] = k
		s.Agents[name] = &launchtest.Agent{
			Kernel: "6.18.0",
			Describe: wire.DescribeAnswer{
				Dataplanes: []wire.Dataplane{{Name: "kube-proxy", Mode: "nftables", Family: "ipv4", Active: true, Evidence: "table ip kube-proxy"}},
				Interfaces: []wire.Interface{
					{Name: "lo", Index: 1, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
					{Name: "eth0", Index: 2, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.250.0.%d/24", 11+i))}},
				},
				ConntrackCount: 120, ConntrackMax: 262144,
			},
			Walk: func(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
				if port := r.Destination.Port(); k.walk != nil && !r.Reply && (port == 80 || port == 30080) {
					return k.walk(r)
				}
				return k.answer(r), nil
			},
			Flows: []wire.Flow{{
				Protocol: "tcp", State: "ESTABLISHED", TimeoutSeconds: 86390,
				Source: netip.MustParseAddrPort("10.244.1.20:40000"), Destination: netip.MustParseAddrPort("10.96.0.25:80"),
				ReplySource: netip.MustParseAddrPort("10.244.1.10:8080"), ReplyDestination: netip.MustParseAddrPort("10.244.1.20:40000"),
			}},
		}
	}
	return s
}

func webService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.25", ClusterIPs: []string{"10.96.0.25"}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080), NodePort: 30080}},
		},
	}
}

func webSlice(addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-abcde", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	names := []string{"web-7d4b9c5f6d-x2x4z", "web-7d4b9c5f6d-9xkqp", "web-7d4b9c5f6d-third"}
	for i, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a}, NodeName: ptr.To(fmt.Sprintf("node%d", i%2+1)), Zone: ptr.To("zone-a"),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: names[i%3]},
		})
	}
	return s
}

func node(name string, i int, ready bool) *corev1.Node {
	status := corev1.ConditionTrue
	if !ready {
		status = corev1.ConditionUnknown
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: "zone-a"}},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{fmt.Sprintf("10.244.%d.0/24", i)}},
		Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.250.0.%d", 10+i)}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Message: "kubelet stopped posting"}},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.37.2", OperatingSystem: "linux"},
		},
	}
}

func pod(namespace, name, node, ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
}

// options are what the flags would give, with both streams kept.
func (s *shop) options(t *testing.T) (o *runOptions, out, errOut *bytes.Buffer) {
	t.Helper()
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	return &runOptions{
		IOStreams: streams, client: s.Client, attacher: s, namespace: "shop", service: "web", maxNodes: 10,
		agents:  launch.Options{Namespace: "shop", Image: "agent:test", Profile: launch.NetAdmin, Timeout: 5 * time.Second},
		outside: intent.Outside, failOn: diagnose.Error,
	}, out, errOut
}
