package cluster

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	c := apistate.ParseProxyConfig(m.Data[proxyKey])
	a.set(func(s *apistate.State) { s.Proxy = c })
}
