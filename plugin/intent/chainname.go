package intent

import "slices"

// ServiceChains names the chains that kube-proxy's iptables mode has for the Service on every node: one for each port that
// sends to endpoints of the whole cluster (pkg/proxy/iptables, servicePortPolicyClusterChain, 1.29 to 1.37).
func (m *Model) ServiceChains() []string {
	var out []string
	for _, p := range m.Ports {
		name := m.Namespace + "/" + m.Name
		if p.Name != "" {
			name += ":" + p.Name
		}
		if slices.ContainsFunc(p.Endpoints, Endpoint.usable) && !m.InternalLocal {
			out = append(out, "KUBE-SVC-"+kubeProxyHash(name+p.Protocol, 16))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
