package diagnose_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// outline writes findings as severity:id, with what follows from each in brackets.
func outline(found []diagnose.Finding) string {
	var out []string
	for _, f := range found {
		s := string(f.Severity) + ":" + f.ID
		if len(f.Consequences) > 0 {
			s += "[" + outline(f.Consequences) + "]"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// TestFaultsOfTheAPI makes one thing wrong in a healthy cluster, and requires that finding alone, its consequences folded
// under it. Where want is empty nothing is wrong, however suspicious it looks.
func TestFaultsOfTheAPI(t *testing.T) {
	tests := map[string]struct {
		change func(*world)
		want   string
		// says is in the first finding's sentence, fix or evidence.
		says []string
	}{
		"healthy": {func(*world) {}, "", nil},
		"selector with a typing error": {func(w *world) {
			w.Service.Spec.Selector, w.Slices[0].Endpoints = map[string]string{"app": "wbe"}, nil
		}, "error:no-ready-endpoints", []string{"the nearest is pod web-1 (and 1 alike), with app=web instead of app=wbe", "kubectl set selector service web -n shop 'app=web'", "pod web-2 has app=web"}},
		"selector with one label too many": {func(w *world) {
			w.Service.Spec.Selector, w.Slices[0].Endpoints = map[string]string{"app": "web", "tier": "front"}, nil
		}, "error:no-ready-endpoints", []string{"with no label tier", "'app=web'"}},
		"selector with another key": {func(w *world) {
			w.Service.Spec.Selector, w.Slices[0].Endpoints = map[string]string{"app.kubernetes.io/apps": "web"}, nil
		}, "error:no-ready-endpoints", []string{"app=web instead of app.kubernetes.io/apps=web"}},
		"selector like nothing": {func(w *world) {
			w.Service.Spec.Selector, w.Slices[0].Endpoints = map[string]string{"zone": "qqqqqqqq"}, nil
		}, "error:no-ready-endpoints", []string{"no pod of namespace shop has the labels zone=qqqqqqqq; clients are refused"}},
		"pods that could not be read": {func(w *world) {
			w.Slices[0].Endpoints, w.Pods, w.Read.Pods = nil, nil, false
		}, "error:no-ready-endpoints", []string{"no pod with an address matches app=web"}},
		"failing probe": {func(w *world) {
			w.unready(0)
			w.unready(1)
			w.Events = []corev1.Event{{InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web-1"}, Reason: "Unhealthy", Message: "Readiness probe failed: HTTP probe failed with statuscode: 503"}}
		}, "error:endpoints-not-ready[error:no-ready-endpoints]", []string{"pod web-1: Readiness probe failed: HTTP probe failed with statuscode: 503", "and 1 more"}},
		"crashing": {func(w *world) {
			w.unready(0)
			w.unready(1)
			w.Pods[0].Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 5m0s"}}}}
		}, "error:endpoints-not-ready[error:no-ready-endpoints]", []string{"container web waits: CrashLoopBackOff (back-off 5m0s)"}},
		"readiness gate": {func(w *world) {
			w.unready(0)
			w.unready(1)
			w.Pods[0].Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "lb.example.com/ready"}}
		}, "error:endpoints-not-ready[error:no-ready-endpoints]", []string{"readiness gate lb.example.com/ready"}},
		"pending": {func(w *world) {
			w.Slices[0].Endpoints = nil
			w.Pods = w.Pods[:1]
			w.Pods[0].Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"}}}
		}, "error:endpoints-not-ready[error:no-ready-endpoints]", []string{"not scheduled: 0/3 nodes are available"}},
		"one pod of a rollout is not ready": {func(w *world) { w.unready(0) }, "", nil},
		"only terminating ones serve": {func(w *world) {
			for i := range w.Slices[0].Endpoints {
				w.Slices[0].Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true), Terminating: ptr.To(true)}
			}
		}, "warning:terminating-endpoints-only", []string{"2 that still serve"}},
		"one of two terminates": {func(w *world) {
			w.Slices[0].Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true), Terminating: ptr.To(true)}
			w.Pods = w.Pods[1:]
		}, "", nil},
		"slice with another port name": {func(w *world) {
			w.manual()
			w.Slices[0].Ports[0].Name = ptr.To("web")
		}, "error:port-name-mismatch[error:no-ready-endpoints]", []string{`named "http"`, `port 8080/TCP named "web"`}},
		"slice with another protocol": {func(w *world) {
			w.manual()
			w.Slices[0].Ports[0].Protocol = ptr.To(corev1.ProtocolUDP)
		}, "error:port-name-mismatch[error:no-ready-endpoints]", []string{"8080/UDP"}},
		"target port that no pod has": {func(w *world) {
			w.Service.Spec.Ports[0].TargetPort = intstr.FromString("web")
			w.Slices[0].Ports = nil
		}, "error:named-target-port-missing[error:no-ready-endpoints]", []string{`target port "web"`, `"http" 8080/TCP`}},
		"target port that one pod lacks": {func(w *world) {
			w.Service.Spec.Ports[0].TargetPort = intstr.FromString("http")
			w.Pods[1].Spec.Containers[0].Ports = nil
			w.Slices[0].Endpoints = w.Slices[0].Endpoints[:1]
		}, "warning:named-target-port-missing", []string{"1 of 2 matching pods"}},
		"target port that all pods have": {func(w *world) { w.Service.Spec.Ports[0].TargetPort = intstr.FromString("http") }, "", nil},
		"nobody writes slices": {func(w *world) {
			w.Service.Spec.Selector, w.Slices = nil, nil
		}, "error:selectorless-without-slices[error:no-ready-endpoints]", []string{"no selector"}},
		"manual slice": {func(w *world) { w.manual() }, "", nil},
		"dual stack without IPv6 endpoints": {func(w *world) {
			w.dualStack()
		}, "error:family-without-endpoints[error:no-ready-endpoints]", []string{"ipv6 clients are refused", "addresses of ipv4"}},
		"manual slice with another port than targetPort": {func(w *world) {
			w.manual()
			w.Slices[0].Ports[0].Port = ptr.To[int32](9090)
		}, "warning:manual-slice-port-differs", []string{"targetPort 8080", "9090"}},
		"manual slice, targetPort left alone": {func(w *world) {
			w.manual()
			w.Service.Spec.Ports[0].TargetPort = intstr.FromInt32(80)
		}, "", nil},
		"several addresses in one endpoint": {func(w *world) {
			w.manual()
			w.Slices[0].Endpoints[0].Addresses = append(w.Slices[0].Endpoints[0].Addresses, "10.244.1.11")
		}, "warning:several-addresses-in-endpoint", []string{"only the first, 10.244.1.10"}},
		"endpoint that is another Service": {func(w *world) {
			w.manual()
			w.Slices[0].Endpoints[0].Addresses = []string{"10.96.0.26"}
		}, "error:endpoint-is-service-address", []string{"ClusterIP of Service shop/other"}},
		"endpoint in the range of Services": {func(w *world) {
			w.manual()
			w.Slices[0].Endpoints[0].Addresses = []string{"10.96.77.1"}
		}, "error:endpoint-is-service-address", []string{"10.96.0.0/16"}},
		"pod that is gone": {func(w *world) { w.Pods = w.Pods[1:] }, "error:stale-endpoint-slice", []string{"there is no such pod"}},
		"pod that ended while we read": {func(w *world) {
			w.Pods, w.SlicesAgain = w.Pods[1:], nil
		}, "", nil},
		"pod that was made anew":   {func(w *world) { w.Pods[0].UID = "uid-another" }, "error:stale-endpoint-slice", []string{"another one by now"}},
		"pod with another address": {func(w *world) { w.Pods[0].Status.PodIPs[0].IP = "10.244.1.77" }, "error:stale-endpoint-slice", []string{"10.244.1.77"}},
		"slices of two managers": {func(w *world) {
			extra := worldSlice("web-mirror", &w.Pods[1])
			extra.Labels[discoveryv1.LabelManagedBy] = "endpointslicemirroring-controller.k8s.io"
			w.Slices = append(w.Slices, extra)
		}, "warning:slices-of-two-managers", []string{"endpointslicemirroring-controller.k8s.io manages web-mirror"}},
		"one address for two pods": {func(w *world) {
			other := worldPod("web-3", "node1", "10.244.1.10")
			other.Status.Phase = corev1.PodPending
			w.Pods = append(w.Pods, other)
			w.Slices = append(w.Slices, worldSlice("web-def", &other))
		}, "warning:duplicate-endpoint", []string{"two pods, web-1 and web-3"}},
		"Endpoints cut short": {func(w *world) {
			//lint:ignore SA1019 it is what the finding is about
			w.Endpoints = &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{corev1.EndpointsOverCapacity: "truncated"}}}
		}, "info:endpoints-object-truncated", []string{"1,000"}},
		"two running pods with one address": {func(w *world) {
			w.Pods = append(w.Pods, worldPod("job", "node2", "10.244.1.10"))
			w.Pods[3].Namespace, w.Pods[3].Labels = "other", nil
		}, "error:duplicate-pod-address", []string{"shop/web-1, other/job"}},
		"ended pod with the same address": {func(w *world) {
			w.Pods = append(w.Pods, worldPod("job", "node2", "10.244.1.10"))
			w.Pods[3].Labels, w.Pods[3].Status.Phase = nil, corev1.PodSucceeded
		}, "", nil},
		"host network pods share an address": {func(w *world) {
			for i := range w.Pods[:2] {
				w.Pods[i].Spec.HostNetwork, w.Pods[i].Status.PodIPs[0].IP, w.Slices[0].Endpoints[i].Addresses = true, "10.250.0.11", []string{"10.250.0.11"}
			}
			w.Slices[0].Endpoints = w.Slices[0].Endpoints[:1]
		}, "", nil},
		"ClusterIP of two": {func(w *world) { w.Services[1].Spec.ClusterIPs[0] = "10.96.0.25" }, "error:cluster-ip-shared", []string{"shop/other"}},
		"ClusterIP out of range": {func(w *world) {
			w.ServiceCIDRs[0].Spec.CIDRs[0] = "10.97.0.0/16"
		}, "warning:cluster-ip-outside-range", []string{"10.97.0.0/16"}},
		"ClusterIP not recorded": {func(w *world) { w.Addresses = nil }, "warning:cluster-ip-not-allocated", []string{"10.96.0.25"}},
		"release without ranges": {func(w *world) {
			w.ServiceCIDRs, w.Addresses = nil, nil
		}, "", nil},
		"external IP of two": {func(w *world) {
			w.Service.Spec.ExternalIPs, w.Services[1].Spec.ExternalIPs = []string{"203.0.113.5"}, []string{"203.0.113.5"}
		}, "warning:address-shared", []string{"shop/other"}},
		"external IP of two, other ports": {func(w *world) {
			w.Service.Spec.ExternalIPs, w.Services[1].Spec.ExternalIPs = []string{"203.0.113.5"}, []string{"203.0.113.5"}
			w.Services[1].Spec.Ports[0].Port = 81
		}, "", nil},
		"external IP of a node":          {func(w *world) { w.Service.Spec.ExternalIPs = []string{"10.250.0.12"} }, "warning:external-ip-is-node-address", []string{"node2"}},
		"pod range within the Services'": {func(w *world) { w.Nodes[0].Spec.PodCIDRs[0] = "10.96.5.0/24" }, "warning:overlapping-ranges", []string{"the pod range of node node1 (10.96.5.0/24)"}},
		"pod ranges of two nodes":        {func(w *world) { w.Nodes[2].Spec.PodCIDRs[0] = "10.244.2.0/24" }, "warning:overlapping-ranges", []string{"node2", "node3"}},
		"node in a pod range":            {func(w *world) { w.Nodes[2].Spec.PodCIDRs[0] = "10.250.0.0/24" }, "warning:overlapping-ranges warning:overlapping-ranges warning:overlapping-ranges", []string{"the address of node"}},
		"node that died": {func(w *world) {
			w.Nodes[1].Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Message: "kubelet stopped posting"}
		}, "warning:endpoint-on-dead-node", []string{"1 of 2 ready endpoints", "kubelet stopped posting"}},
		"node that was deleted": {func(w *world) { w.Nodes = w.Nodes[1:] }, "warning:endpoint-on-dead-node", []string{"node1 is not in the API"}},
		"every node died": {func(w *world) {
			for i := range w.Nodes {
				w.Nodes[i].Status.Conditions[0].Status = corev1.ConditionUnknown
			}
		}, "error:endpoint-on-dead-node error:endpoint-on-dead-node", nil},
		"load balancer pending": {func(w *world) { w.loadBalancer() }, "warning:load-balancer-pending", []string{"no controller has served"}},
		"load balancer of an unknown class": {func(w *world) {
			w.loadBalancer()
			w.Service.Spec.LoadBalancerClass = ptr.To("nil")
		}, "warning:load-balancer-pending", []string{`class "nil"`}},
		"load balancer that its controller complains about": {func(w *world) {
			w.loadBalancer()
			w.Events = []corev1.Event{{InvolvedObject: corev1.ObjectReference{Kind: "Service", Name: "web"}, Type: corev1.EventTypeWarning, Reason: "SyncLoadBalancerFailed", Message: "quota exceeded"}}
		}, "warning:load-balancer-pending", []string{"quota exceeded"}},
		"load balancer": {func(w *world) { w.loadBalancer("203.0.113.9") }, "", nil},
		"all nodes excluded": {func(w *world) {
			w.loadBalancer("203.0.113.9")
			for i := range w.Nodes {
				w.Nodes[i].Labels[corev1.LabelNodeExcludeBalancers] = ""
			}
		}, "warning:nodes-excluded-from-load-balancers", []string{"every node is excluded"}},
		"one node excluded": {func(w *world) {
			w.loadBalancer("203.0.113.9")
			w.Nodes[0].Labels[corev1.LabelNodeExcludeBalancers] = ""
		}, "", nil},
		"policy Local, and the nodes with endpoints excluded": {func(w *world) {
			w.loadBalancer("203.0.113.9")
			w.Service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			w.Nodes[0].Labels[corev1.LabelNodeExcludeBalancers], w.Nodes[1].Labels[corev1.LabelNodeExcludeBalancers] = "", ""
		}, "warning:nodes-excluded-from-load-balancers", []string{"every node with endpoints"}},
		"source ranges of one family": {func(w *world) {
			w.dualStack()
			v6 := worldSlice("web-v6", &w.Pods[0], &w.Pods[1])
			v6.AddressType = discoveryv1.AddressTypeIPv6
			for i := range v6.Endpoints {
				v6.Endpoints[i].Addresses[0], v6.Endpoints[i].TargetRef = fmt.Sprintf("fd00:244:%d::10", i+1), nil
			}
			w.Slices = append(w.Slices, v6)
			w.loadBalancer("203.0.113.9", "2001:db8:5::9")
			w.Service.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"}
		}, "warning:source-ranges-one-family", []string{"no ipv6 range"}},
		"source ranges and node ports": {func(w *world) {
			w.loadBalancer("203.0.113.9")
			w.Service.Spec.Ports[0].NodePort = 30080
			w.Service.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"}
		}, "info:node-port-unrestricted", []string{"whoever reaches a node"}},
		"PROXY protocol and ipMode VIP": {func(w *world) {
			w.loadBalancer("203.0.113.9")
			w.Service.Annotations = map[string]string{"load-balancer.hetzner.cloud/uses-proxyprotocol": "true"}
		}, "warning:load-balancer-bypassed", []string{"never pass the load balancer"}},
		"PROXY protocol and ipMode Proxy": {func(w *world) {
			w.loadBalancer("203.0.113.9")
			w.Service.Status.LoadBalancer.Ingress[0].IPMode = ptr.To(corev1.LoadBalancerIPModeProxy)
			w.Service.Annotations = map[string]string{"service.beta.kubernetes.io/do-loadbalancer-enable-proxy-protocol": "true"}
		}, "", nil},
		"hints on some endpoints": {func(w *world) {
			w.Service.Spec.TrafficDistribution = ptr.To("PreferSameZone")
			w.Slices[0].Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "zone-1"}}}
		}, "info:hints-ignored", []string{"1 of 2 ready endpoints have no hint"}},
		"hints, and the node has no zone": {func(w *world) {
			w.hinted()
			delete(w.Nodes[2].Labels, corev1.LabelTopologyZone)
			w.nodes = []*survey.Node{{Node: intent.Node{Name: "node3"}}}
		}, "info:hints-ignored", []string{"no label topology.kubernetes.io/zone"}},
		"hints as asked": {func(w *world) {
			w.hinted()
			w.nodes = []*survey.Node{{Node: intent.Node{Name: "node1"}}}
		}, "", nil},
		"hints to one of many": {func(w *world) {
			w.hinted()
			w.Pods = append(w.Pods, worldPod("web-3", "node2", "10.244.2.11"))
			w.Slices = append(w.Slices, worldSlice("web-def", &w.Pods[3]))
			w.Slices[1].Endpoints[0].Hints = w.Slices[0].Endpoints[1].Hints
			w.nodes = []*survey.Node{{Node: intent.Node{Name: "node1"}}}
		}, "info:hints-concentrate", []string{"of 3 that are ready"}},
		"policy Local and endpoints of no node": {func(w *world) {
			w.manual()
			w.Service.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
		}, "error:endpoints-without-node", []string{"internalTrafficPolicy is Local"}},
		"another proxy": {func(w *world) {
			w.Service.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "kpng"}
		}, "warning:left-to-another-proxy", []string{`"kpng"`}},
		"node port among the kernel's own": {func(w *world) {
			w.Service.Spec.Type, w.Service.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 32800
			w.nodes = []*survey.Node{ephemeral("")}
		}, "warning:node-port-in-ephemeral-range", []string{"net.ipv4.ip_local_port_range = 32768 60999"}},
		"node port that is reserved": {func(w *world) {
			w.Service.Spec.Type, w.Service.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 32800
			w.nodes = []*survey.Node{ephemeral("30000-32800,40000")}
		}, "", nil},
		"more sticky clients than the kernel remembers": {func(w *world) {
			w.Service.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			w.nodes = []*survey.Node{stickyNode(101)}
		}, "warning:affinity-list-full", []string{"101 clients"}},
		"as many as it remembers": {func(w *world) {
			w.Service.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			w.nodes = []*survey.Node{stickyNode(100)}
		}, "", nil},
		"two faults at once": {func(w *world) {
			w.Pods[0].UID = "uid-another"
			w.Services[1].Spec.ClusterIPs[0] = "10.96.0.25"
		}, "error:stale-endpoint-slice error:cluster-ip-shared", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			tt.change(w)
			found := w.find(t)
			if got := outline(found); got != tt.want {
				t.Fatalf("found %q, want %q\n%+v", got, tt.want, found)
			}
			for _, f := range diagnose.All(found) {
				if f.Sentence == "" || f.Fix == "" || len(f.Evidence) == 0 && f.ID != diagnose.NoReadyEndpoints.ID {
					t.Errorf("%s lacks its sentence, fix or evidence: %+v", f.ID, f)
				}
			}
			for _, want := range tt.says {
				if all := strings.Join(append([]string{found[0].Sentence, found[0].Fix}, diagnose.Texts(found[0].Evidence)...), "\n"); !strings.Contains(all, want) {
					t.Errorf("%q is not in\n%s", want, all)
				}
			}
		})
	}
}

// ephemeral is a node whose kernel takes the ports 32768-60999 for outgoing connections, except the reserved ones.
func ephemeral(reserved string) *survey.Node {
	return &survey.Node{Node: intent.Node{Name: "node1"}, Facts: &wire.FactsAnswer{Sysctls: []wire.Sysctl{
		{Name: "net/ipv4/ip_local_port_range", Value: "32768\t60999"}, {Name: "net/ipv4/ip_local_reserved_ports", Value: reserved},
	}, KubeProxy: wire.KubeProxy{Processes: []string{"pid 1 /kube-proxy"}, Health: wire.Endpoint{Listening: true, Status: 200}}}}
}

// hinted asks for the zone and gives every endpoint the hint of its own.
func (w *world) hinted() {
	w.Service.Spec.TrafficDistribution = ptr.To("PreferSameZone")
	for i := range w.Slices[0].Endpoints {
		w.Slices[0].Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: fmt.Sprintf("zone-%d", i+1)}}}
	}
}

// stickyNode is a node in iptables mode with flows of so many clients to one endpoint.
func stickyNode(clients int) *survey.Node {
	n := &survey.Node{Node: intent.Node{Name: "node1"}, Describe: wire.DescribeAnswer{Dataplanes: []wire.Dataplane{{Name: "kube-proxy", Mode: "iptables (nft)", Family: "ipv4", Active: true}}}}
	from := netip.MustParseAddr("10.244.3.10")
	for range clients {
		n.Flows = append(n.Flows, wire.Flow{Protocol: "tcp", State: "ESTABLISHED", Source: netip.AddrPortFrom(from, 40000),
			Destination: netip.MustParseAddrPort("10.96.0.25:80"), ReplySource: netip.MustParseAddrPort("10.244.1.10:8080")})
		from = from.Next()
	}
	return n
}

func TestServicesThatNoNodeTranslates(t *testing.T) {
	tests := map[string]struct {
		change func(*world)
		want   string
	}{
		"headless, another port":  {func(*world) {}, "warning:headless-port"},
		"headless, the same port": {func(w *world) { w.Service.Spec.Ports[0].Port = 8080 }, ""},
		"headless, nobody ready": {func(w *world) {
			w.Service.Spec.Ports[0].Port = 8080
			w.unready(0)
			w.unready(1)
		}, "error:headless-without-endpoints"},
		"headless, nobody ready, published": {func(w *world) {
			w.Service.Spec.Ports[0].Port, w.Service.Spec.PublishNotReadyAddresses = 8080, true
			w.unready(0)
			w.unready(1)
		}, ""},
		"alias of a name": {func(w *world) {
			w.Service.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.com"}
		}, ""},
		"alias with ports": {func(w *world) {
			w.Service.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.com", Ports: []corev1.ServicePort{{Port: 5432}}}
		}, "info:external-name-ports-ignored"},
		"alias of an address": {func(w *world) {
			w.Service.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "203.0.113.7"}
		}, "error:external-name-is-address"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.Service.Spec.ClusterIP, w.Service.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
			tt.change(w)
			if got := outline(diagnose.Untranslatable(w.State)); got != tt.want {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}
