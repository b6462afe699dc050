package intent

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"strings"
)

// AffinityList is where a kube-proxy has the kernel remember the clients of one endpoint of one service port, under the
// session affinity ClientIP.
type AffinityList struct {
	Endpoint netip.AddrPort
	// Recent is the recent list of iptables mode, Set the set of nftables mode, in the table kube-proxy.
	Recent, Set string
}

// longestName is what kube-proxy cuts the names of its nftables objects to.
const longestName = 240

// AffinityLists names the lists of every endpoint; nil without session affinity. The names are kube-proxy's: servicePort-
// EndpointChainName (pkg/proxy/iptables) and servicePortEndpointAffinityNameBase (pkg/proxy/nftables), 1.29 to 1.37.
func (m *Model) AffinityLists() []AffinityList {
	if m.Affinity == 0 {
		return nil
	}
	var out []AffinityList
	for _, p := range m.Ports {
		service := m.Namespace + "/" + m.Name
		named := service
		if p.Name != "" {
			named += ":" + p.Name
		}
		for _, e := range p.Endpoints {
			address := e.Address.Addr().Unmap()
			recent := "KUBE-SEP-" + kubeProxyHash(named+p.Protocol+netip.AddrPortFrom(address, e.Address.Port()).String(), 16)
			base := fmt.Sprintf("%s/%s/%s__%s/%d", service, p.Protocol, p.Name, strings.ReplaceAll(address.String(), ":", "."), e.Address.Port())
			set := "affinity-" + kubeProxyHash(base, 8) + "-" + base
			if len(set) > longestName {
				set = set[:longestName-3] + "..."
			}
			out = append(out, AffinityList{Endpoint: e.Address, Recent: recent, Set: set})
		}
	}
	return out
}

// kubeProxyHash is the part of a name that tells Services and endpoints apart.
func kubeProxyHash(s string, n int) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])[:n]
}
