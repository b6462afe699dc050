package intent

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestConfigurationSettlesWhatTheAPILeavesOpen is the table of reference/kube-proxy.md, section 3, with its overrides.
func TestConfigurationSettlesWhatTheAPILeavesOpen(t *testing.T) {
	pods := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	byCIDR := &Proxy{DetectLocal: ByClusterCIDR, ClusterCIDRs: pods}
	tests := map[string]struct {
		proxy *Proxy
		// masquerade of connections to the ClusterIP, from a pod, the node, and outside.
		pod, node, outside Masquerade
		// all is true when a pod under externalTrafficPolicy Local gets all endpoints.
		all bool
	}{
		"cluster CIDR":         {byCIDR, SourceKept, Masqueraded, Masqueraded, true},
		"masquerade all":       {&Proxy{DetectLocal: ByClusterCIDR, ClusterCIDRs: pods, MasqueradeAll: true}, Masqueraded, Masqueraded, Masqueraded, true},
		"no range":             {&Proxy{DetectLocal: ByClusterCIDR}, SourceKept, SourceKept, SourceKept, false},
		"another family alone": {&Proxy{DetectLocal: ByClusterCIDR, ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("fd00::/16")}}, SourceKept, SourceKept, SourceKept, false},
		"interface":            {&Proxy{DetectLocal: ByInterface}, SourceKept, Masqueraded, Masqueraded, true},
		"not known":            {nil, MasqueradeUnknown, MasqueradeUnknown, MasqueradeUnknown, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := build(t, service(func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }), two)
			m.Proxy = tt.proxy
			for kind, want := range map[ClientKind]Masquerade{FromPod: tt.pod, FromNode: tt.node, FromOutside: tt.outside} {
				e := m.Expect(path(t, m, ClusterIP), clients[kind], here, IPTables)
				for _, s := range e.Shares {
					if s.Masquerade != want {
						t.Errorf("%s: masquerade %q, want %q", kind, s.Masquerade, want)
					}
				}
			}
			e := m.Expect(path(t, m, NodePort), clients[FromPod], here, IPTables)
			if all := len(e.Endpoints()) == 2; all != tt.all || (len(e.Alternatives) > 0) != (tt.proxy == nil) {
				t.Errorf("a pod under the policy Local: %+v", e)
			}
		})
	}
}
