package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// The web servers: two on node 1, one on node 2, none on node 3, so that every node has another share of them.
var webPods = []struct {
	name   string
	node   int
	labels map[string]string
}{
	{"web-a", 1, map[string]string{"app": "web"}},
	{"web-b", 1, map[string]string{"app": "web"}},
	{"web-c", 2, map[string]string{"app": "web", "only": "yes"}},
}

// service describes a Service of the tests in what differs from the others.
type service struct {
	name string
	// selects are the labels of its pods; nil means all web servers.
	selects map[string]string
	// protocols of port 80; nil means TCP.
	protocols []corev1.Protocol
	// clusterOnly Services have no other address than their ClusterIPs; the others are of type LoadBalancer.
	clusterOnly bool
	// externalIP gives it an external IP too.
	externalIP bool
	external   corev1.ServiceExternalTrafficPolicy
	internal   corev1.ServiceInternalTrafficPolicy
	affinity   bool
	// ranges are who may use the load balancer's address, by family.
	ranges map[intent.Family]string
	// noNodePort leaves it without node ports.
	noNodePort bool
	ipMode     *corev1.LoadBalancerIPMode
}

var (
	proxied   = corev1.LoadBalancerIPModeProxy
	nobody    = map[string]string{"app": "nobody"}
	tcpAndUDP = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}
)

// services are traced side by side. Each has its own number, which is in its addresses.
var services = []service{
	{name: "plain", protocols: tcpAndUDP, externalIP: true},
	{name: "external-local", externalIP: true, external: corev1.ServiceExternalTrafficPolicyLocal},
	{name: "internal-local", internal: corev1.ServiceInternalTrafficPolicyLocal},
	{name: "no-endpoints", protocols: tcpAndUDP, selects: nobody, externalIP: true},
	{name: "one-endpoint", selects: map[string]string{"only": "yes"}, clusterOnly: true},
	// the client outside is in the first's ranges, and nobody of the lab in the second's
	{name: "some-sources", noNodePort: true, ranges: map[intent.Family]string{intent.IPv4: "10.250.0.96/28", intent.IPv6: "fd00:250::100/120"}},
	{name: "other-sources", noNodePort: true, ranges: map[intent.Family]string{intent.IPv4: "203.0.113.0/24", intent.IPv6: "2001:db8::/32"}},
	{name: "proxied", noNodePort: true, ipMode: &proxied},
}

// virtual is address number i of the load balancers' range, of each of the lab's families.
func (c *cluster) virtual(i int) []string {
	var out []string
	if c.has(intent.IPv4) {
		out = append(out, fmt.Sprintf("10.251.0.%d", i))
	}
	if c.has(intent.IPv6) {
		out = append(out, fmt.Sprintf("fd00:251::%d", i))
	}
	return out
}

// object is the Service as the API has it, without its status.
func (c *cluster) object(s service, number int) *corev1.Service {
	policy := corev1.IPFamilyPolicySingleStack
	if c.Options().Family == lab.Dual {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	o := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: s.name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilyPolicy: &policy, Selector: s.selects,
			ExternalTrafficPolicy: s.external,
		},
	}
	if o.Spec.Selector == nil {
		o.Spec.Selector = map[string]string{"app": "web"}
	}
	if s.internal != "" {
		o.Spec.InternalTrafficPolicy = &s.internal
	}
	if s.affinity {
		o.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	protocols := s.protocols
	if protocols == nil {
		protocols = tcpAndUDP[:1]
	}
	for _, p := range protocols {
		o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{
			Name: strings.ToLower(string(p)), Protocol: p, Port: 80, TargetPort: intstr.FromInt32(lab.WebPort),
		})
	}
	if s.externalIP {
		o.Spec.ExternalIPs = c.virtual(100 + number)
	}
	for _, f := range c.families() {
		if r, ok := s.ranges[f]; ok {
			o.Spec.LoadBalancerSourceRanges = append(o.Spec.LoadBalancerSourceRanges, r)
		}
	}
	if s.noNodePort {
		no := false
		o.Spec.AllocateLoadBalancerNodePorts = &no
	}
	if s.clusterOnly {
		o.Spec.Type, o.Spec.ExternalTrafficPolicy = corev1.ServiceTypeClusterIP, ""
	}
	return o
}

// makeService makes a Service with its load balancer's addresses.
func (c *cluster) makeService(ctx context.Context, s service, number int) error {
	api := c.client.CoreV1().Services(namespace)
	made, err := api.Create(ctx, c.object(s, number), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make service %s: %w", s.name, err)
	}
	if s.clusterOnly {
		return nil
	}
	for _, ip := range c.virtual(number) {
		made.Status.LoadBalancer.Ingress = append(made.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip, IPMode: s.ipMode})
	}
	if _, err := api.UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("give service %s its load balancer's addresses: %w", s.name, err)
	}
	return nil
}

// makeWeb makes the web servers and the Services, and waits until they are as they should be on every node.
func (c *cluster) makeWeb(ctx context.Context, services []service) error {
	g, making := errgroup.WithContext(ctx)
	for _, p := range webPods {
		g.Go(func() error { return c.webPod(making, p.name, c.Node(p.node), p.labels) })
	}
	for i, s := range services {
		g.Go(func() error { return c.makeService(making, s, i+1) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.awaitRules(ctx, services)
}

// awaitRules waits until the Services' EndpointSlices say what the running web servers are, and every node's rules say
// what the EndpointSlices do.
func (c *cluster) awaitRules(ctx context.Context, services []service) error {
	for _, s := range services {
		selector := &metav1.LabelSelector{MatchLabels: c.object(s, 0).Spec.Selector}
		pods, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(selector)})
		if err != nil {
			return err
		}
		staying := 0
		for _, p := range pods.Items {
			if p.DeletionTimestamp == nil {
				staying++
			}
		}
		if err := c.AwaitEndpoints(ctx, namespace, s.name, staying*len(c.families())); err != nil {
			return err
		}
	}
	return c.sync(ctx)
}

// routeOutside makes the client outside send everything that is for Services to one node.
func (c *cluster) routeOutside(ctx context.Context, n *lab.Node) error {
	for _, r := range []string{"10.96.0.0/16", "10.251.0.0/24", "fd00:96::/112", "fd00:251::/64"} {
		to := netip.MustParsePrefix(r)
		via := nodeAddress(n, to.Addr().Is4())
		if !via.IsValid() {
			continue
		}
		if _, err := c.Outside().Run(ctx, "ip", "route", "replace", r, "via", via.String()); err != nil {
			return err
		}
	}
	return nil
}
