package apistate

import (
	"cmp"

	"sigs.k8s.io/yaml"
)

// ProxyConfig is what decides about Services in the ConfigMap kube-system/kube-proxy. A kube-proxy reads it when it starts.
type ProxyConfig struct {
	// Mode is iptables, nftables or ipvs, with the default applied.
	Mode string
	// ClusterCIDR is as it is written: one range for each family, separated by commas.
	ClusterCIDR       string
	NodePortAddresses []string
}

// ParseProxyConfig reads a KubeProxyConfiguration; nil when it is none.
func ParseProxyConfig(text string) *ProxyConfig {
	var c struct {
		Kind              string   `json:"kind"`
		Mode              string   `json:"mode"`
		ClusterCIDR       string   `json:"clusterCIDR"`
		NodePortAddresses []string `json:"nodePortAddresses"`
	}
	if err := yaml.Unmarshal([]byte(text), &c); err != nil || c.Kind != "KubeProxyConfiguration" {
		return nil
	}
	return &ProxyConfig{Mode: cmp.Or(c.Mode, "iptables"), ClusterCIDR: c.ClusterCIDR, NodePortAddresses: c.NodePortAddresses}
}
