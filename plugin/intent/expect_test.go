package intent

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// service is a load balancer Service of every kind of access path.
func service(change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.25", ClusterIPs: []string{"10.96.0.25"}, ExternalIPs: []string{"198.51.100.9"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromString("web"), NodePort: 30080}},
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "198.51.100.1"}}}},
	}
	if change != nil {
		change(s)
	}
	return s
}

// ep is an endpoint on a node; states are ready unless changed.
func ep(addr, node string, changes ...func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{addr}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true)}}
	for _, c := range changes {
		c(&e)
	}
	return e
}

func notReady(e *discoveryv1.Endpoint) {
	e.Conditions.Ready, e.Conditions.Serving = ptr.To(false), ptr.To(false)
}

func dying(e *discoveryv1.Endpoint) {
	e.Conditions.Ready, e.Conditions.Terminating = ptr.To(false), ptr.To(true)
}

func forZone(z string) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		if e.Hints == nil {
			e.Hints = &discoveryv1.EndpointHints{}
		}
		e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: z})
	}
}

func forNode(n string) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		if e.Hints == nil {
			e.Hints = &discoveryv1.EndpointHints{}
		}
		e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: n})
	}
}

func slice(eps ...discoveryv1.Endpoint) []discoveryv1.EndpointSlice {
	return []discoveryv1.EndpointSlice{{
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: eps,
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080)}},
	}}
}

var here = Node{Name: "n1", Zone: "za", Ready: true, Internal: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Release: 37}

func build(t *testing.T, s *corev1.Service, slcs []discoveryv1.EndpointSlice) *Model {
	t.Helper()
	m, err := Build(s, slcs, []Node{here})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func path(t *testing.T, m *Model, kind AccessKind) AccessPath {
	t.Helper()
	i := slices.IndexFunc(m.Paths, func(p AccessPath) bool { return p.Kind == kind })
	if i < 0 {
		t.Fatalf("no %s among %v", kind, m.Paths)
	}
	return m.Paths[i]
}

var clients = map[ClientKind]Client{
	FromPod:     {Kind: FromPod, Node: "n1", Source: netip.MustParseAddr("10.244.1.99")},
	FromNode:    {Kind: FromNode, Node: "n1"},
	FromOutside: {Kind: FromOutside, Node: "n1", Source: netip.MustParseAddr("192.0.2.1")},
}

// all and mine are the cluster-wide and the local endpoints of the tables below.
var (
	two  = slice(ep("10.244.1.2", "n1"), ep("10.244.2.2", "n2"))
	all  = []string{"10.244.1.2:8080", "10.244.2.2:8080"}
	mine = []string{"10.244.1.2:8080"}
)

func externalPolicyLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func internalPolicyLocal(s *corev1.Service) {
	s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
}

// The cases are kube-proxy's own table TestInternalExternalMasquerade, with a local detector.
func TestPoliciesOfIPTablesAndNFTables(t *testing.T) {
	tests := []struct {
		policy func(*corev1.Service)
		name   string
		path   AccessKind
		client ClientKind
		want   []string
		masq   Masquerade
	}{
		{nil, "both Cluster", ClusterIP, FromPod, all, MasqueradeUnknown},
		{nil, "both Cluster", NodePort, FromPod, all, Masqueraded},
		{nil, "both Cluster", LoadBalancerIP, FromPod, all, Masqueraded},
		{nil, "both Cluster", NodePort, FromNode, all, Masqueraded},
		{nil, "both Cluster", NodePort, FromOutside, all, Masqueraded},
		{nil, "both Cluster", ExternalIP, FromOutside, all, Masqueraded},
		{externalPolicyLocal, "external Local", ClusterIP, FromPod, all, MasqueradeUnknown},
		{externalPolicyLocal, "external Local", NodePort, FromPod, all, SourceKept},
		{externalPolicyLocal, "external Local", LoadBalancerIP, FromPod, all, SourceKept},
		{externalPolicyLocal, "external Local", NodePort, FromNode, all, Masqueraded},
		{externalPolicyLocal, "external Local", NodePort, FromOutside, mine, SourceKept},
		{externalPolicyLocal, "external Local", LoadBalancerIP, FromOutside, mine, SourceKept},
		{internalPolicyLocal, "internal Local", ClusterIP, FromPod, mine, MasqueradeUnknown},
		{internalPolicyLocal, "internal Local", ClusterIP, FromNode, mine, MasqueradeUnknown},
		{internalPolicyLocal, "internal Local", ClusterIP, FromOutside, mine, MasqueradeUnknown},
		{internalPolicyLocal, "internal Local", NodePort, FromPod, all, Masqueraded},
		{internalPolicyLocal, "internal Local", LoadBalancerIP, FromOutside, all, Masqueraded},
	}
	for _, mode := range []Mode{IPTables, NFTables} {
		for _, tt := range tests {
			t.Run(string(mode)+"/"+tt.name+"/"+string(tt.path)+"/"+string(tt.client), func(t *testing.T) {
				m := build(t, service(tt.policy), two)
				e := m.Expect(path(t, m, tt.path), clients[tt.client], here, mode)
				checkShares(t, e, tt.want, tt.masq)
			})
		}
	}
}

func checkShares(t *testing.T, e Expectation, want []string, masq Masquerade) {
	t.Helper()
	if e.Fate != Translated {
		t.Fatalf("fate %s: %s", e.Fate, e.Why)
	}
	var got []string
	for _, s := range e.Shares {
		got = append(got, s.Endpoint.Address.String())
		if s.Masquerade != masq {
			t.Errorf("%s: masquerade %q, want %q", s.Endpoint.Address, s.Masquerade, masq)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("endpoints %v, want %v", got, want)
	}
}

func TestPodsMayBeTreatedAsOutsideWhenThePodRangeIsNotKnown(t *testing.T) {
	m := build(t, service(externalPolicyLocal), two)
	e := m.Expect(path(t, m, NodePort), clients[FromPod], here, IPTables)
	if len(e.Alternatives) != 1 {
		t.Fatalf("alternatives %+v", e.Alternatives)
	}
	checkShares(t, e.Alternatives[0], mine, SourceKept)
}

func TestRejectWithoutEndpointsAndDropWithoutLocalOnes(t *testing.T) {
	elsewhere := slice(ep("10.244.2.2", "n2"))
	tests := map[string]struct {
		policy func(*corev1.Service)
		slices []discoveryv1.EndpointSlice
		path   AccessKind
		client ClientKind
		mode   Mode
		want   Fate
	}{
		"no endpoints":                            {nil, nil, ClusterIP, FromPod, IPTables, Rejected},
		"only one that is not ready":              {nil, slice(ep("10.244.1.2", "n1", notReady)), ClusterIP, FromPod, NFTables, Rejected},
		"internal Local, endpoint elsewhere":      {internalPolicyLocal, elsewhere, ClusterIP, FromPod, IPTables, Dropped},
		"internal Local, no endpoints":            {internalPolicyLocal, nil, ClusterIP, FromPod, IPTables, Rejected},
		"external Local, endpoint elsewhere":      {externalPolicyLocal, elsewhere, NodePort, FromOutside, IPTables, Dropped},
		"external Local, elsewhere, from pod":     {externalPolicyLocal, elsewhere, NodePort, FromPod, IPTables, Translated},
		"external Local, elsewhere, from node":    {externalPolicyLocal, elsewhere, NodePort, FromNode, IPTables, Translated},
		"internal Local does not bind nodePorts":  {internalPolicyLocal, elsewhere, NodePort, FromPod, IPTables, Translated},
		"IPVS falls back instead of dropping":     {externalPolicyLocal, elsewhere, NodePort, FromOutside, IPVS, Translated},
		"IPVS without endpoints":                  {nil, nil, NodePort, FromOutside, IPVS, Rejected},
		"external Local only dying one elsewhere": {externalPolicyLocal, slice(ep("10.244.2.2", "n2", dying)), NodePort, FromOutside, NFTables, Dropped},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := build(t, service(tt.policy), tt.slices)
			if e := m.Expect(path(t, m, tt.path), clients[tt.client], here, tt.mode); e.Fate != tt.want {
				t.Errorf("fate %s (%s), want %s", e.Fate, e.Why, tt.want)
			}
		})
	}
}

func TestNodeMayReachALoadBalancerThatHasNoEndpointsOnlyInIPTablesMode(t *testing.T) {
	m := build(t, service(nil), nil)
	p := path(t, m, LoadBalancerIP)
	if e := m.Expect(p, clients[FromNode], here, IPTables); len(e.Alternatives) != 1 || e.Alternatives[0].Fate != Untouched {
		t.Errorf("iptables: %+v", e)
	}
	if e := m.Expect(p, clients[FromNode], here, NFTables); len(e.Alternatives) != 0 {
		t.Errorf("nftables: %+v", e)
	}
}

func TestIPVSKeepsLocalClientsLocalUnderTheExternalPolicy(t *testing.T) {
	m := build(t, service(externalPolicyLocal), two)
	checkShares(t, m.Expect(path(t, m, NodePort), clients[FromPod], here, IPVS), mine, SourceKept)
}

func TestTerminatingEndpointsServeOnlyWhenNoneIsReady(t *testing.T) {
	m := build(t, service(nil), slice(ep("10.244.1.2", "n1", dying), ep("10.244.2.2", "n2")))
	checkShares(t, m.Expect(path(t, m, ClusterIP), clients[FromPod], here, IPTables), []string{"10.244.2.2:8080"}, MasqueradeUnknown)
	m = build(t, service(nil), slice(ep("10.244.1.2", "n1", dying), ep("10.244.2.2", "n2", notReady)))
	checkShares(t, m.Expect(path(t, m, ClusterIP), clients[FromPod], here, IPTables), mine, MasqueradeUnknown)
}

func TestHairpinIsMasqueradedWhateverThePolicy(t *testing.T) {
	m := build(t, service(externalPolicyLocal), two)
	self := Client{Kind: FromPod, Node: "n1", Source: netip.MustParseAddr("10.244.1.2")}
	e := m.Expect(path(t, m, NodePort), self, here, NFTables)
	if e.Shares[0].Masquerade != Masqueraded || e.Shares[1].Masquerade != SourceKept {
		t.Errorf("%+v", e.Shares)
	}
}

func TestTopologyHints(t *testing.T) {
	zones := slice(ep("10.244.1.2", "n1", forZone("za")), ep("10.244.2.2", "n2", forZone("zb")))
	nodes := slice(ep("10.244.1.2", "n1", forNode("n1"), forZone("za")), ep("10.244.2.2", "n2", forNode("n2"), forZone("za")))
	annotated := func(s *corev1.Service) { s.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"} }
	tests := map[string]struct {
		release Release
		service func(*corev1.Service)
		slices  []discoveryv1.EndpointSlice
		want    []string
	}{
		"zone":                                   {37, nil, zones, mine},
		"zone in 1.32":                           {32, nil, zones, mine},
		"1.30 needs the annotation":              {30, nil, zones, all},
		"1.30 with the annotation":               {30, annotated, zones, mine},
		"node":                                   {37, nil, nodes, mine},
		"1.33 does not know node hints":          {33, nil, nodes, all},
		"one without a hint disables all":        {37, nil, slice(ep("10.244.1.2", "n1", forZone("za")), ep("10.244.2.2", "n2")), all},
		"no endpoint for this zone disables all": {37, nil, slice(ep("10.244.1.2", "n1", forZone("zx")), ep("10.244.2.2", "n2", forZone("zb"))), all},
		"one that is not ready does not count":   {37, nil, slice(ep("10.244.1.2", "n1", forZone("za")), ep("10.244.2.2", "n2", forZone("zb")), ep("10.244.2.3", "n2", notReady)), mine},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := build(t, service(tt.service), tt.slices)
			n := here
			n.Release = tt.release
			checkShares(t, m.Expect(path(t, m, ClusterIP), clients[FromPod], n, IPTables), tt.want, MasqueradeUnknown)
		})
	}
}

func TestSourceRanges(t *testing.T) {
	ranges := func(r ...string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = r }
	}
	tests := map[string]struct {
		ranges []string
		client ClientKind
		slices []discoveryv1.EndpointSlice
		mode   Mode
		want   Fate
	}{
		"in":                                 {[]string{"192.0.2.0/24"}, FromOutside, two, IPTables, Translated},
		"out":                                {[]string{"203.0.113.0/24"}, FromOutside, two, IPTables, Dropped},
		"pods are bound too":                 {[]string{"203.0.113.0/24"}, FromPod, two, NFTables, Dropped},
		"the node is, by its address":        {[]string{"10.0.0.0/24"}, FromNode, two, IPTables, Translated},
		"other family leaves this one open":  {[]string{"2001:db8::/32"}, FromOutside, two, IPTables, Translated},
		"everything":                         {[]string{" 0.0.0.0/0 "}, FromOutside, two, NFTables, Translated},
		"no endpoints, iptables rejects":     {[]string{"203.0.113.0/24"}, FromOutside, nil, IPTables, Rejected},
		"no endpoints, nftables still drops": {[]string{"203.0.113.0/24"}, FromOutside, nil, NFTables, Dropped},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := build(t, service(ranges(tt.ranges...)), tt.slices)
			if e := m.Expect(path(t, m, LoadBalancerIP), clients[tt.client], here, tt.mode); e.Fate != tt.want {
				t.Errorf("fate %s, want %s", e.Fate, tt.want)
			}
			if e := m.Expect(path(t, m, ExternalIP), clients[tt.client], here, tt.mode); e.Fate == Dropped {
				t.Error("source ranges bind an external IP")
			}
		})
	}
}

func TestProxiedAndForeignServicesAreLeftAlone(t *testing.T) {
	m := build(t, service(func(s *corev1.Service) {
		s.Status.LoadBalancer.Ingress[0].IPMode = ptr.To(corev1.LoadBalancerIPModeProxy)
	}), two)
	if e := m.Expect(path(t, m, LoadBalancerIP), clients[FromPod], here, IPTables); e.Fate != Untouched {
		t.Errorf("ipMode Proxy: %+v", e)
	}
	m = build(t, service(func(s *corev1.Service) {
		s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "other"}
	}), two)
	if e := m.Expect(path(t, m, ClusterIP), clients[FromPod], here, IPTables); e.Fate != Untouched {
		t.Errorf("other proxy: %+v", e)
	}
}

func TestDuplicateAddresses(t *testing.T) {
	dup := slice(ep("10.244.1.2", "n2", dying), ep("10.244.1.2", "n1"))
	for release, want := range map[Release]string{35: "n1", 37: "n1"} { // local, and not terminating
		m := build(t, service(nil), dup)
		n := here
		n.Release = release
		e := m.Expect(path(t, m, ClusterIP), clients[FromPod], n, IPTables)
		if len(e.Shares) != 1 || e.Shares[0].Endpoint.Node != want {
			t.Errorf("1.%d: %+v", release, e.Shares)
		}
	}
}

func TestReleasesDiffer(t *testing.T) {
	proxied := func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.9", IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)}}
	}
	elsewhere := slice(ep("10.244.2.2", "n2"))
	tests := map[string]struct {
		service func(*corev1.Service)
		kind    AccessKind
		mode    Mode
		release Release
		want    []Fate // the expectation's, then those of its alternatives
	}{
		"ipMode Proxy":                              {proxied, LoadBalancerIP, IPTables, 30, []Fate{Untouched}},
		"ipMode Proxy of an unknown release":        {proxied, LoadBalancerIP, IPTables, 0, []Fate{Untouched}},
		"ipMode Proxy in 1.29":                      {proxied, LoadBalancerIP, IPTables, 29, []Fate{Translated, Untouched}},
		"the node itself, policy Local, 1.34":       {externalPolicyLocal, NodePort, NFTables, 34, []Fate{Translated}},
		"the node itself, policy Local, 1.33":       {externalPolicyLocal, NodePort, NFTables, 33, []Fate{Translated, Dropped}},
		"the node itself, policy Local, 1.32":       {externalPolicyLocal, NodePort, NFTables, 32, []Fate{Dropped}},
		"the node itself, policy Local, 1.32, ipt.": {externalPolicyLocal, NodePort, IPTables, 32, []Fate{Translated}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := build(t, service(tt.service), elsewhere)
			n := here
			n.Release = tt.release
			e := m.Expect(path(t, m, tt.kind), clients[FromNode], n, tt.mode)
			got := []Fate{e.Fate}
			for _, a := range e.Alternatives {
				got = append(got, a.Fate)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
