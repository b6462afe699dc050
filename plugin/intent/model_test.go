package intent

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestAccessPathsOfADualStackService(t *testing.T) {
	m := build(t, service(func(s *corev1.Service) {
		s.Spec.ClusterIPs = []string{"10.96.0.25", "fd00:96::25"}
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: "2001:db8:1::1"}, corev1.LoadBalancerIngress{Hostname: "lb.example.com"})
	}), nil)
	var got []string
	for _, p := range m.Paths {
		got = append(got, p.String())
	}
	want := []string{
		"ClusterIP 10.96.0.25:80/TCP", "ClusterIP [fd00:96::25]:80/TCP", "NodePort 30080/TCP", "NodePort 30080/TCP (IPv6)",
		"LoadBalancer 198.51.100.1:80/TCP", "LoadBalancer [2001:db8:1::1]:80/TCP", "ExternalIP 198.51.100.9:80/TCP",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAddressOfAnotherFamilyIsNoPathButANote(t *testing.T) {
	m := build(t, service(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"2001:db8::9"} }), nil)
	for _, p := range m.Paths {
		if p.Kind == ExternalIP {
			t.Errorf("path %s", p)
		}
	}
	if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "2001:db8::9") {
		t.Errorf("notes %q", m.Notes)
	}
}

func TestEndpointsAreJoinedByPortNameNotNumber(t *testing.T) {
	named := func(name string, port int32, addr string) discoveryv1.EndpointSlice {
		return discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{ep(addr, "n1")},
			Ports: []discoveryv1.EndpointPort{{Name: ptr.To(name), Port: ptr.To(port)}}}
	}
	udp := named("http", 8080, "10.244.1.5")
	udp.Ports[0].Protocol = ptr.To(corev1.ProtocolUDP)
	nameless := named("http", 8080, "10.244.1.6")
	nameless.Ports[0].Name = nil
	v6 := named("http", 8080, "fd00::1")
	v6.AddressType = discoveryv1.AddressTypeIPv6
	m := build(t, service(nil), []discoveryv1.EndpointSlice{
		named("http", 8080, "10.244.1.2"), named("http", 9090, "10.244.1.3"), named("other", 80, "10.244.1.4"), udp, nameless, v6,
	})
	var got []string
	for _, e := range m.Endpoints() {
		got = append(got, e.Address.String())
	}
	if d := cmp.Diff([]string{"10.244.1.2:8080", "10.244.1.3:9090"}, got); d != "" {
		t.Error(d)
	}
}

func TestOnlyTheFirstAddressOfAnEndpointCounts(t *testing.T) {
	m := build(t, service(nil), slice(ep("10.244.1.2", "n1", func(e *discoveryv1.Endpoint) { e.Addresses = append(e.Addresses, "10.244.1.3") })))
	if n := len(m.Endpoints()); n != 1 {
		t.Errorf("%d endpoints", n)
	}
}

func TestConditionsHaveDefaults(t *testing.T) {
	m := build(t, service(nil), slice(ep("10.244.1.2", "n1", func(e *discoveryv1.Endpoint) { e.Conditions = discoveryv1.EndpointConditions{} })))
	if e := m.Endpoints()[0]; !e.Ready || !e.Serving || e.Terminating || e.State() != "ready" {
		t.Errorf("%+v", e)
	}
}

func TestNothingToTranslate(t *testing.T) {
	tests := map[string]struct {
		change func(*corev1.Service)
		kind   string
	}{
		"headless": {func(s *corev1.Service) { s.Spec.ClusterIP = "None" }, "headless"},
		"ExternalName": {func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "db.example.com"
		}, "ExternalName"},
		"not allocated": {func(s *corev1.Service) { s.Spec.ClusterIP = "" }, "without a ClusterIP"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Build(service(tt.change), nil, nil)
			var un *UntranslatableError
			if !errors.As(err, &un) || un.Kind != tt.kind || un.Next == "" {
				t.Errorf("got %+v", err)
			}
		})
	}
}

func TestClientIsAPodThatIsNoEndpointIfThereIsOne(t *testing.T) {
	m := build(t, service(nil), two)
	pod := func(ns, name, ip string, change func(*corev1.Pod)) corev1.Pod {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.PodSpec{NodeName: "n1"},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}}}}
		if change != nil {
			change(&p)
		}
		return p
	}
	endpoint := pod("shop", "a", "10.244.1.2", nil)
	host := pod("shop", "b", "10.0.0.1", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	done := pod("shop", "c", "10.244.1.254", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	other := pod("kube-system", "d", "10.244.1.7", nil)
	same := pod("shop", "e", "10.244.1.8", nil)
	n := here
	n.PodRanges = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
	tests := map[string]struct {
		pods     []corev1.Pod
		want     string
		invented bool
	}{
		"same namespace first":          {[]corev1.Pod{endpoint, host, done, other, same}, "10.244.1.8", false},
		"another namespace":             {[]corev1.Pod{endpoint, host, done, other}, "10.244.1.7", false},
		"the endpoint if nothing else":  {[]corev1.Pod{endpoint, host, done}, "10.244.1.2", false},
		"a free address if there is no": {[]corev1.Pod{host, done}, "10.244.1.253", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := m.Clients(n, IPv4, tt.pods, Outside[IPv4])
			if len(c) != 3 || c[0].Source.String() != tt.want || c[0].Invented != tt.invented {
				t.Errorf("got %+v", c)
			}
		})
	}
	if c := m.Clients(n, IPv6, nil, Outside[IPv6]); len(c) != 1 || c[0].Kind != FromOutside {
		t.Errorf("IPv6: %+v", c)
	}
}

func TestNodesAreThoseOfTheEndpointsAndOneWithout(t *testing.T) {
	m := build(t, service(nil), slice(ep("10.244.1.2", "n1"), ep("10.244.2.2", "n2"), ep("10.244.3.2", "n3", notReady), ep("10.244.4.2", "gone")))
	m.Nodes = []Node{{Name: "win", OS: "windows", Ready: true}, {Name: "n1", Ready: true}, {Name: "n2", NotReady: "lost"}, {Name: "n3", Ready: true}, {Name: "n4", Ready: true}}
	chosen, skipped, left := m.ChooseNodes(10)
	if len(chosen) != 2 || chosen[0].Name != "n1" || chosen[1].Name != "n3" || left != 0 {
		t.Errorf("chosen %+v, left %d", chosen, left)
	}
	if len(skipped) != 2 || skipped[0].Node != "gone" || skipped[1].Node != "n2" {
		t.Errorf("skipped %+v", skipped)
	}
	if chosen, _, left := m.ChooseNodes(1); len(chosen) != 1 || left != 0 {
		t.Errorf("limit 1: %+v, left %d", chosen, left)
	}
}

func TestParseRelease(t *testing.T) {
	for version, want := range map[string]Release{"v1.33.4": 33, "v1.29.6-eks-1234": 29, "1.30+": 30, "v2.0.0": 0, "": 0, "v1.x": 0} {
		if got := ParseRelease(version); got != want {
			t.Errorf("%q: %d, want %d", version, got, want)
		}
	}
}
