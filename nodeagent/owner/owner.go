// Package owner guesses from the names of tables and chains whose rules they are. The names are the programs' own; a rule
// in a chain that nobody claims may be anybody's.
package owner

import "strings"

// Policies are the programs whose chains carry out NetworkPolicy objects.
const (
	Calico     = "Calico"
	KubeRouter = "kube-router"
	Cilium     = "Cilium"
	Antrea     = "Antrea"
	Policies   = "kube-network-policies"
)

// KubeProxy is the name of kube-proxy; Kubelet's few chains carry its prefix too.
const KubeProxy = "kube-proxy"

// Portmap is the CNI plugin that carries out hostPort.
const Portmap = "the CNI plugin portmap (hostPort)"

// known are prefixes of chain names, the longer of two that fit first.
var known = []struct{ prefix, owner string }{
	{"KUBE-ROUTER-", KubeRouter}, {"KUBE-POD-FW-", KubeRouter}, {"KUBE-NWPLCY-", KubeRouter}, {"KUBE-SVC-FW-", KubeRouter},
	{"KUBE-KUBELET-CANARY", "kubelet"}, {"KUBE-IPTABLES-HINT", "kubelet"},
	{"KUBE-", KubeProxy},
	{"DOCKER", "Docker"},
	{"cali-", Calico}, {"cali_", Calico},
	{"CILIUM_", Cilium}, {"OLD_CILIUM_", Cilium},
	{"ANTREA-", Antrea},
	{"CNI-HOSTPORT-", Portmap}, {"CNI-DN-", Portmap}, {"CNI-SN-", Portmap},
	{"CNI-", "a CNI plugin"},
	{"FLANNEL-", "flannel"},
	{"WEAVE-", "Weave Net"},
	{"ufw6-", "ufw"}, {"ufw-", "ufw"},
	{"ts-", "Tailscale"},
	{"netbird-", "NetBird"}, {"NETBIRD-", "NetBird"},
	{"ISTIO_", "Istio"},
	{"LINKERD_", "Linkerd"}, {"PROXY_INIT_", "Linkerd"},
	{"AWS-", "the AWS VPC CNI"},
	{"OVN-KUBE-", "OVN-Kubernetes"},
	{"LIBVIRT_", "libvirt"},
	{"f2b-", "fail2ban"},
	{"IN_", "firewalld"}, {"FWD_", "firewalld"}, {"FWDI_", "firewalld"}, {"FWDO_", "firewalld"}, {"FORWARD_direct", "firewalld"}, {"INPUT_direct", "firewalld"},
}

// tables are names of nftables tables that belong to one program alone.
var tables = []struct{ prefix, owner string }{
	{"kube-proxy", KubeProxy},
	{"firewalld", "firewalld"},
	{"kube-network-policies", Policies}, {"kindnet-network-policies", Policies},
	{"calico", Calico},
	{"cni_hostport", Portmap},
	{"docker-bridges", "Docker"},
	{"netbird", "NetBird"},
	{"tailscale", "Tailscale"},
	{"libvirt_network", "libvirt"},
	{"antrea", Antrea},
	{"istio", "Istio"},
	{"flannel", "flannel"},
}

// Of returns the program that a chain belongs to, and "" when its names do not tell. table is written as in a trace: with
// its family ("ip filter"), or "legacy filter".
func Of(table, chain string) string {
	_, name, ok := strings.Cut(table, " ")
	if !ok {
		name = table
	}
	for _, t := range tables {
		if strings.HasPrefix(name, t.prefix) {
			return t.owner
		}
	}
	for _, c := range known {
		if strings.HasPrefix(chain, c.prefix) {
			return c.owner
		}
	}
	return ""
}

// CarriesOutPolicies reports whether a program's drops are what NetworkPolicy objects ask for.
func CarriesOutPolicies(name string) bool {
	switch name {
	case Calico, KubeRouter, Cilium, Antrea, Policies, "Weave Net":
		return true
	}
	return false
}
