package apistate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProxyConfigOfKubeadm(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want *ProxyConfig
	}{
		"written out": {"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\nclusterCIDR: 10.244.0.0/16\nnodePortAddresses: [primary]\n",
			&ProxyConfig{Mode: "nftables", ClusterCIDR: "10.244.0.0/16", NodePortAddresses: []string{"primary"}}},
		"the default mode":     {"kind: KubeProxyConfiguration\nmode: \"\"\n", &ProxyConfig{Mode: "iptables"}},
		"something else":       {"kind: Config\n", nil},
		"no YAML":              {"\x00{", nil},
		"nothing":              {"", nil},
		"a list for the range": {"kind: KubeProxyConfiguration\nclusterCIDR: [a]\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, ParseProxyConfig(tt.text)); d != "" {
				t.Error(d)
			}
		})
	}
}
