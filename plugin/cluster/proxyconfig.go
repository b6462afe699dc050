package cluster

import (
	"cmp"
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/apistate"
)

// Where kubeadm keeps kube-proxy's configuration (cmd/kubeadm/app/constants).
const (
	proxyNamespace = "kube-system"
	proxyConfigMap = "kube-proxy"
	proxyKey       = "config.conf"
)

// proxyConfig reads kube-proxy's configuration. Installers that keep it elsewhere have no such ConfigMap.
func (a *around) proxyConfig(ctx context.Context) {
	m, err := a.client.CoreV1().ConfigMaps(proxyNamespace).Get(ctx, proxyConfigMap, metav1.GetOptions{})
	if err != nil {
		a.note(err, "get", "configmaps", proxyNamespace, "whether nodes run with kube-proxy's configuration of today is not looked for")
		return
	}
	c := parseProxyConfig(m.Data[proxyKey])
	a.set(func(s *apistate.State) { s.Proxy = c })
}

// parseProxyConfig reads a KubeProxyConfiguration; nil when it is none.
func parseProxyConfig(text string) *apistate.ProxyConfig {
	var c struct {
		Kind              string   `json:"kind"`
		Mode              string   `json:"mode"`
		ClusterCIDR       string   `json:"clusterCIDR"`
		NodePortAddresses []string `json:"nodePortAddresses"`
	}
	if err := yaml.Unmarshal([]byte(text), &c); err != nil || c.Kind != "KubeProxyConfiguration" {
		return nil
	}
	return &apistate.ProxyConfig{Mode: cmp.Or(c.Mode, "iptables"), ClusterCIDR: c.ClusterCIDR, NodePortAddresses: c.NodePortAddresses}
}
