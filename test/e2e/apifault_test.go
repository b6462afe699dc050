package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/proofs"
)

// apiFault is a mistake in the objects of a Service.
type apiFault struct {
	name string
	// caused says in words what is wrong.
	caused string
	// service changes the healthy Service before it is made; slice is its own EndpointSlice, nil where the selector makes them.
	service func(*corev1.Service)
	slice   func(*discoveryv1.EndpointSlice)
	// finds is the finding at the top, and consequence what is folded under it, if anything.
	finds, severity, consequence string
	// says is in its sentence.
	says string
	// ends is how connections to the ClusterIP end, from a pod of each node.
	ends []lab.Result
	// repair mends it; nothing may be found afterwards.
	repair func(*corev1.Service, *discoveryv1.EndpointSlice)
}

func withoutSelector(s *corev1.Service) { s.Spec.Selector = nil }

var apiFaults = []apiFault{
	{name: "typo", caused: "a typing mistake in the selector", service: func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "wbe"} },
		finds: "no-ready-endpoints", severity: "error", says: "with app=web instead of app=wbe", ends: []lab.Result{lab.Refused},
		repair: func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.Selector = map[string]string{"app": "web"}
		}},
	{name: "unready", caused: "a readiness probe that fails", service: func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "unready"} },
		finds: "endpoints-not-ready", severity: "error", consequence: "no-ready-endpoints", says: "Readiness probe failed", ends: []lab.Result{lab.Refused},
		repair: func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.Selector = map[string]string{"app": "web"}
		}},
	{name: "named", caused: "a targetPort whose name no container port has", service: func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") },
		finds: "named-target-port-missing", severity: "error", consequence: "no-ready-endpoints", says: `"web"`, ends: []lab.Result{lab.Refused},
		repair: func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.Ports[0].TargetPort = intstr.FromString("http")
		}},
	{name: "unwritten", caused: "no selector and no EndpointSlice", service: withoutSelector,
		finds: "selectorless-without-slices", severity: "error", consequence: "no-ready-endpoints", says: "no selector", ends: []lab.Result{lab.Refused},
		repair: func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.Selector = map[string]string{"app": "web"}
		}},
	{name: "portname", caused: "an EndpointSlice whose port has another name", service: withoutSelector, slice: func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name = new("web") },
		finds: "port-name-mismatch", severity: "error", consequence: "no-ready-endpoints", says: `named "http"`, ends: []lab.Result{lab.Refused},
		repair: func(_ *corev1.Service, s *discoveryv1.EndpointSlice) { s.Ports[0].Name = new("http") }},
	{name: "virtual", caused: "an endpoint that is another ClusterIP", service: withoutSelector, slice: func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = []string{"10.96.0.1"} },
		finds: "endpoint-is-service-address", severity: "error", consequence: "stopped-after-translation", says: "default/kubernetes", ends: []lab.Result{lab.Timeout, lab.Refused, lab.Unreachable}},
	{name: "addresses", caused: "two addresses in one endpoint", service: withoutSelector, slice: func(s *discoveryv1.EndpointSlice) {
		s.Endpoints[0].Addresses = append(s.Endpoints[0].Addresses, "10.244.1.200")
	},
		finds: "several-addresses-in-endpoint", severity: "warning", says: "only the first", ends: []lab.Result{lab.Answered}},
	{name: "stale", caused: "an EndpointSlice that names a pod of long ago", service: withoutSelector, slice: func(s *discoveryv1.EndpointSlice) {
		s.Endpoints[0].Addresses, s.Endpoints[0].TargetRef = []string{"10.244.1.201"}, &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: "gone"}
	}, finds: "stale-endpoint-slice", severity: "error", says: "there is no such pod", ends: []lab.Result{lab.Timeout, lab.Unreachable}},
	{name: "nowhere", caused: "internalTrafficPolicy Local and endpoints without a node", service: func(s *corev1.Service) {
		s.Spec.Selector, s.Spec.InternalTrafficPolicy = nil, new(corev1.ServiceInternalTrafficPolicyLocal)
	}, slice: func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].NodeName = nil },
		finds: "endpoints-without-node", severity: "error", consequence: "no-local-endpoints", says: "internalTrafficPolicy is Local", ends: []lab.Result{lab.Timeout}},
	{name: "pending", caused: "a load balancer class that no controller serves", service: func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, new("example.com/none")
	},
		finds: "load-balancer-pending", severity: "warning", says: `"example.com/none"`, ends: []lab.Result{lab.Answered}},
}

// TestFaultsOfTheAPIAreFound makes each mistake in a real cluster, sees real connections end as they must, and requires the
// finding at the top and no other beside it. After the repair nothing is found.
func TestFaultsOfTheAPIAreFound(t *testing.T) {
	c := newCluster(t, "api-faults", lab.IPv4)
	ctx := within(t, 4*time.Minute)
	if err := c.webPod(ctx, "web-a", c.Node(1), map[string]string{"app": "web"}); err != nil {
		t.Fatal(err)
	}
	unready := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "unready", Labels: map[string]string{"app": "unready"}}, Spec: lab.WebPodSpec()}
	unready.Spec.NodeName = c.Node(2).Name
	unready.Spec.Containers[0].ReadinessProbe.HTTPGet.Port = intstr.FromInt32(1)
	if _, err := c.client.CoreV1().Pods(namespace).Create(ctx, unready, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	web, err := c.client.CoreV1().Pods(namespace).Get(ctx, "web-a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range apiFaults {
		t.Run(x.name, func(t *testing.T) { c.findInAPI(ctx, t, x, web) })
	}
}

// apiObjects are a healthy Service, and a slice as someone would write it by hand.
func apiObjects(x apiFault, web *corev1.Pod) (*corev1.Service, *discoveryv1.EndpointSlice) {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: x.name},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(lab.WebPort)}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: x.name, Labels: map[string]string{discoveryv1.LabelServiceName: x.name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(lab.WebPort)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{web.Status.PodIP}, NodeName: new(web.Spec.NodeName)}},
	}
	x.service(s)
	if x.slice != nil {
		x.slice(slice)
	}
	return s, slice
}

func (c *cluster) findInAPI(ctx context.Context, t *testing.T, x apiFault, web *corev1.Pod) {
	services, slices := c.client.CoreV1().Services(namespace), c.client.DiscoveryV1().EndpointSlices(namespace)
	s, slice := apiObjects(x, web)
	s, err := services.Create(ctx, s, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if x.slice != nil {
		if slice, err = slices.Create(ctx, slice, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.awaitAPI(ctx, x, s); err != nil {
		t.Fatal(err)
	}
	a, r := c.trace(ctx, t, c.traceArgs(x.name)...)
	if len(loud(a)) != 1 {
		t.Errorf("%d warnings and errors, want one: %v", len(loud(a)), r)
	}
	if len(a.Findings) > 0 {
		f := a.Findings[0]
		if f.ID != x.finds || f.Severity != x.severity || !strings.Contains(f.Message, x.says) || len(f.Evidence) == 0 || f.Fix == "" {
			t.Errorf("found %+v, want %s %s that says %q, with evidence and fix", f, x.severity, x.finds, x.says)
		}
		if got := len(f.Consequences) > 0 && f.Consequences[0].ID == x.consequence; got != (x.consequence != "") {
			t.Errorf("consequences %+v, want %q", f.Consequences, x.consequence)
		}
		if !strings.Contains(a.Headline, f.Message) {
			t.Errorf("the headline is %q", a.Headline)
		}
	}
	c.endInAPI(ctx, t, x, s.Spec.ClusterIP)
	if !t.Failed() {
		x.record(t)
		if *update {
			c.sample(ctx, t, x)
		}
	}
	if x.repair == nil {
		return
	}
	x.repair(s, slice)
	if _, err := services.Update(ctx, s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if x.slice != nil {
		if _, err := slices.Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.awaitAnswer(ctx, s.Spec.ClusterIP); err != nil {
		t.Fatal(err)
	}
	// a connection that was opened before the repair was written stays as it was
	if err := c.forgetFlows(ctx); err != nil {
		t.Fatal(err)
	}
	if a, r := c.trace(ctx, t, c.traceArgs(x.name)...); len(loud(a)) != 0 {
		t.Errorf("after the repair: %v", r)
	}
}

// awaitAPI waits until the control plane and every kube-proxy have done what they do about a new Service, and until the
// probe that is to fail has failed.
func (c *cluster) awaitAPI(ctx context.Context, x apiFault, s *corev1.Service) error {
	if x.finds == "endpoints-not-ready" {
		err := eventually(ctx, "wait until the probe has failed", func() (bool, error) {
			list, err := c.client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=unready,reason=Unhealthy"})
			return err == nil && len(list.Items) > 0, err
		})
		if err != nil {
			return err
		}
	}
	if len(s.Spec.Selector) > 0 {
		err := eventually(ctx, "wait for the EndpointSlice of "+s.Name, func() (bool, error) {
			list, err := c.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + s.Name})
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil && len(list.Items) > 0, err
		})
		if err != nil {
			return err
		}
	}
	return c.sync(ctx)
}

// endInAPI makes a connection from a pod of each node.
func (c *cluster) endInAPI(ctx context.Context, t *testing.T, x apiFault, ip string) {
	t.Helper()
	for i, from := range c.clients {
		got, err := from.Connect(ctx, netip.AddrPortFrom(netip.MustParseAddr(ip), 80), lab.ConnectOptions{Timeout: silencePatience})
		if err != nil {
			t.Fatal(err)
		}
		ok := false
		for _, want := range x.ends {
			ok = ok || got.All(want)
		}
		if !ok {
			t.Errorf("a connection from a pod on %s ended %v, want one of %v", c.Nodes()[i], got.ByResult(), x.ends)
		}
	}
}

// awaitAnswer waits until connections from every node are answered.
func (c *cluster) awaitAnswer(ctx context.Context, ip string) error {
	for _, n := range c.Nodes() {
		err := eventually(ctx, fmt.Sprintf("wait until %s answers on %s", ip, n), func() (bool, error) {
			got, err := n.Connect(ctx, netip.AddrPortFrom(netip.MustParseAddr(ip), 80), lab.ConnectOptions{Timeout: silencePatience})
			return got.All(lab.Answered), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// loud are the warnings and errors.
func loud(a *render.ServiceTrace) []render.Finding {
	return slices.DeleteFunc(slices.Clone(a.Findings), func(f render.Finding) bool { return f.Severity == "info" })
}

// record writes down what was proven, or holds it against what is written.
func (x apiFault) record(t *testing.T) {
	var ends []string
	for _, e := range x.ends {
		ends = append(ends, string(e))
	}
	r := proofs.Record{Finding: x.finds, Test: "TestFaultsOfTheAPIAreFound/" + x.name, Where: "API", Caused: x.caused, Seen: "connections end: " + strings.Join(ends, " or ")}
	records := []proofs.Record{r}
	if x.consequence != "" {
		r.Finding, r.Under = x.consequence, x.finds
		records = append(records, r)
	}
	keep(t, records)
}

// keep writes records with -update, and else requires that they are written.
func keep(t *testing.T, records []proofs.Record) {
	t.Helper()
	if *update {
		if err := proofs.Write(root, "e2e", records); err != nil {
			t.Error(err)
		}
		return
	}
	missing, err := proofs.Missing(root, "e2e", records)
	if err != nil {
		t.Error(err)
	}
	for _, m := range missing {
		t.Errorf("the records do not have %+v; -update writes them", m)
	}
}

// sample keeps what the plugin prints for people from FINDINGS on.
func (c *cluster) sample(ctx context.Context, t *testing.T, x apiFault) {
	t.Helper()
	r, err := c.run(ctx, x.name)
	if err != nil {
		t.Fatal(err)
	}
	_, found, ok := strings.Cut(r.stdout, "\nFINDINGS\n")
	if !ok {
		t.Fatalf("no findings in %v", r)
	}
	if err := os.WriteFile(filepath.Join(root, "docs", "findings", "samples", x.finds+".txt"), []byte(found), 0o644); err != nil {
		t.Fatal(err)
	}
}
