package intent

import "testing"

// The names are those that kube-proxy 1.37 gave to these Services.
func TestChainNamesAreKubeProxys(t *testing.T) {
	for name, want := range map[string]string{"ns1/svc1:p80tcp": "XPGD46QRK7WJZT7O", "default/kubernetes:httpstcp": "NPX46M4PTMTKRN6Y"} {
		if got := kubeProxyHash(name, 16); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestChainsOfAService(t *testing.T) {
	m := &Model{Namespace: "ns1", Name: "svc1", Ports: []Port{{Name: "p80", Protocol: "tcp", Endpoints: []Endpoint{{Ready: true}}}}}
	if got := m.ServiceChains(); len(got) != 1 || got[0] != "KUBE-SVC-XPGD46QRK7WJZT7O" {
		t.Errorf("%v", got)
	}
	m.Ports[0].Endpoints[0].Ready = false
	if got := m.ServiceChains(); len(got) != 0 {
		t.Errorf("without usable endpoints: %v", got)
	}
}
