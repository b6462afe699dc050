package owner_test

import (
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/owner"
)

func TestOwnersAreKnownByTheirNames(t *testing.T) {
	for _, c := range []struct{ table, chain, want string }{
		{"ip filter", "KUBE-FORWARD", "kube-proxy"},
		{"ip kube-proxy", "services", "kube-proxy"},
		{"legacy filter", "KUBE-POD-FW-ABC", "kube-router"},
		{"ip filter", "KUBE-ROUTER-FORWARD", "kube-router"},
		{"ip filter", "DOCKER-USER", "Docker"},
		{"ip filter", "cali-tw-cali123", "Calico"},
		{"inet firewalld", "filter_FWD_public", "firewalld"},
		{"ip filter", "ufw-reject-forward", "ufw"},
		{"ip nat", "CNI-HOSTPORT-DNAT", owner.Portmap},
		{"ip nat", "ISTIO_REDIRECT", "Istio"},
		{"ip filter", "ts-forward", "Tailscale"},
		{"inet kube-network-policies", "forward", owner.Policies},
		{"ip filter", "FORWARD", ""},
		{"inet mine", "forward", ""},
	} {
		if got := owner.Of(c.table, c.chain); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.table, c.chain, got, c.want)
		}
	}
}

func TestOnlyPolicyEnginesCarryOutPolicies(t *testing.T) {
	for name, want := range map[string]bool{owner.Calico: true, owner.KubeRouter: true, "Docker": false, "ufw": false, "": false} {
		if owner.CarriesOutPolicies(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
