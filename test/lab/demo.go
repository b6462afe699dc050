package lab

import (
	"context"
	"fmt"
	"net/netip"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The worked example of the documentation: Service default/web.
const (
	DemoNamespace = "default"
	DemoName      = "web"
	DemoPort      = 80
	DemoNodePort  = 30080
	// WebPort is the port that the web image listens on.
	WebPort = 8080
)

// The worked example's addresses.
var (
	demoClusterIPs    = pair{"10.96.0.25", "fd00:96::25"}
	demoLoadBalancers = pair{"10.251.0.25", "fd00:251::25"}
)

// Demo is the worked example as it is in a lab: its access paths, one per IP family each, and its endpoints.
type Demo struct {
	ClusterIPs    []netip.AddrPort
	LoadBalancers []netip.AddrPort
	// NodePort is the port on every node.
	NodePort uint16
	// Pods are the two pods, by name.
	Pods []corev1.Pod
}

// Demo makes the worked example and waits until it works: Service web of type LoadBalancer, ClusterIP 10.96.0.25 and
// fd00:96::25, port 80 to 8080, node port 30080, with a load balancer's address in its status, and two ready pods, on
// node 1 and node 2.
func (l *Lab) Demo(ctx context.Context) (Demo, error) {
	a := addresses{l.config.Options.Family}
	d := Demo{NodePort: DemoNodePort}
	for _, addr := range a.addrs(demoClusterIPs) {
		d.ClusterIPs = append(d.ClusterIPs, netip.AddrPortFrom(addr, DemoPort))
	}
	for _, addr := range a.addrs(demoLoadBalancers) {
		d.LoadBalancers = append(d.LoadBalancers, netip.AddrPortFrom(addr, DemoPort))
	}
	services := l.client.CoreV1().Services(DemoNamespace)
	service, err := services.Create(ctx, l.demoService(a), metav1.CreateOptions{})
	if err != nil {
		return d, fmt.Errorf("make service web: %w", err)
	}
	for _, addr := range a.pick(demoLoadBalancers) {
		service.Status.LoadBalancer.Ingress = append(service.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: addr})
	}
	if _, err := services.UpdateStatus(ctx, service, metav1.UpdateOptions{}); err != nil {
		return d, fmt.Errorf("give service web its load balancer's address: %w", err)
	}
	if _, err := l.client.AppsV1().Deployments(DemoNamespace).Create(ctx, l.demoDeployment(), metav1.CreateOptions{}); err != nil {
		return d, fmt.Errorf("make deployment web: %w", err)
	}
	if err := l.AwaitEndpoints(ctx, DemoNamespace, DemoName, 2*len(d.ClusterIPs)); err != nil {
		return d, err
	}
	pods, err := l.client.CoreV1().Pods(DemoNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + DemoName})
	if err != nil {
		return d, fmt.Errorf("list pods: %w", err)
	}
	d.Pods = pods.Items
	return d, l.awaitRules(ctx, d)
}

// awaitRules waits until every node's kube-proxy sends connections to both pods, over each family.
func (l *Lab) awaitRules(ctx context.Context, d Demo) error {
	for _, n := range l.Nodes() {
		for _, to := range d.ClusterIPs {
			err := until(ctx, pollEvery, func() (bool, error) {
				attempts, err := n.Connect(ctx, to, ConnectOptions{Count: 16})
				return len(attempts.ByPod()) == 2, err
			})
			if err != nil {
				return fmt.Errorf("wait for %v to work on %s: %w", to, n, err)
			}
		}
	}
	return nil
}

// AwaitEndpoints waits until a Service's EndpointSlices have that many ready addresses, both families together.
func (l *Lab) AwaitEndpoints(ctx context.Context, namespace, service string, want int) error {
	got := 0
	err := until(ctx, pollEvery, func() (bool, error) {
		slices, err := l.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{
			LabelSelector: discoveryv1.LabelServiceName + "=" + service,
		})
		if err != nil {
			return false, err
		}
		got = 0
		for _, s := range slices.Items {
			for _, e := range s.Endpoints {
				if e.Conditions.Ready != nil && *e.Conditions.Ready {
					got += len(e.Addresses)
				}
			}
		}
		return got == want, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %d ready endpoints of %s/%s (%d now): %w", want, namespace, service, got, err)
	}
	return nil
}

func (l *Lab) demoService(a addresses) *corev1.Service {
	policy := corev1.IPFamilyPolicySingleStack
	if l.config.Options.Family == Dual {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	ips := a.pick(demoClusterIPs)
	allocate := true
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: DemoName, Namespace: DemoNamespace},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: ips[0], ClusterIPs: ips, IPFamilyPolicy: &policy,
			AllocateLoadBalancerNodePorts: &allocate,
			Selector:                      map[string]string{"app": DemoName},
			Ports: []corev1.ServicePort{{
				Name: "http", Port: DemoPort, TargetPort: intstr.FromInt32(WebPort), NodePort: DemoNodePort,
			}},
		},
	}
}

func (l *Lab) demoDeployment() *appsv1.Deployment {
	replicas := int32(2)
	labels := map[string]string{"app": DemoName}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: DemoName, Namespace: DemoNamespace},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       WebPodSpec(),
			},
		},
	}
	spec := &d.Spec.Template.Spec
	spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
	}}
	if l.config.Options.Nodes > 2 {
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{nodeName(1), nodeName(2)},
				}},
			}}},
		}}
	}
	return d
}

// WebPodSpec is a pod with the web server on WebPort and a readiness probe that asks it every second. Arguments are the
// server's, such as --listen 127.0.0.1:8080.
func WebPodSpec(args ...string) corev1.PodSpec {
	grace := int64(1)
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{
			Name: "web", Image: WebImage, ImagePullPolicy: corev1.PullNever, Args: args,
			Env:   []corev1.EnvVar{{Name: "POD", ValueFrom: field("metadata.name")}, {Name: "NODE", ValueFrom: field("spec.nodeName")}},
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: WebPort}},
			ReadinessProbe: &corev1.Probe{
				ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(WebPort)}},
				PeriodSeconds: 1,
			},
		}},
	}
}
