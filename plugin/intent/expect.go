package intent

import (
	"fmt"
	"net/netip"
)

// Mode is kube-proxy's mode; the modes differ in what they do without endpoints and under the policy Local.
type Mode string

// kube-proxy's modes. UnknownMode is used when no kube-proxy was recognised; the rules of iptables stand for it.
const (
	UnknownMode Mode = ""
	IPTables    Mode = "iptables"
	NFTables    Mode = "nftables"
	IPVS        Mode = "ipvs"
)

// Fate is what ought to happen to a new connection.
type Fate string

// The fates.
const (
	// Translated: to one of the shares.
	Translated Fate = "translated"
	// Rejected: no endpoint is usable anywhere.
	Rejected Fate = "rejected"
	// Dropped: endpoints exist, but none that this client may use on this node; or the source is not allowed.
	Dropped Fate = "dropped"
	// Untouched: kube-proxy leaves the packet alone, and routing decides.
	Untouched Fate = "untouched"
)

// Masquerade says whether the client's address ought to be replaced; empty where it depends on configuration that the
// API does not show.
type Masquerade string

// The values of Masquerade.
const (
	MasqueradeUnknown Masquerade = ""
	Masqueraded       Masquerade = "yes"
	SourceKept        Masquerade = "no"
)

// Share is one endpoint that ought to get an equal part of the connections.
type Share struct {
	Endpoint   Endpoint
	Masquerade Masquerade
}

// Expectation is what ought to happen to a new connection from a client to an access path on a node.
type Expectation struct {
	Fate Fate
	// Shares are the endpoints, for Translated.
	Shares []Share
	// Sticky is true under session affinity: a client that was here before stays with one endpoint.
	Sticky bool
	// Why says in words what decided, where it is not simply "all ready endpoints".
	Why string
	// Alternatives are equally right where configuration that the API does not show decides.
	Alternatives []Expectation
}

// Endpoints lists the endpoints of the shares.
func (e Expectation) Endpoints() []netip.AddrPort {
	eps := make([]Endpoint, 0, len(e.Shares))
	for _, s := range e.Shares {
		eps = append(eps, s.Endpoint)
	}
	return Addresses(eps)
}

// Expect says what ought to happen to a new connection of the client to the access path, on the client's node n, whose
// kube-proxy runs in the given mode.
func (m *Model) Expect(path AccessPath, c Client, n Node, mode Mode) Expectation {
	if m.OtherProxy != "" {
		out := Expectation{Fate: Untouched, Why: fmt.Sprintf("the label service.kubernetes.io/service-proxy-name=%s hands the Service to another proxy", m.OtherProxy)}
		if path.Kind == ClusterIP && mode == NFTables {
			out.Alternatives = []Expectation{{Fate: Dropped, Why: "nftables mode drops what goes to an address in the Services' ranges that no Service of its own has"}}
		}
		return out
	}
	if path.Proxied {
		untouched := Expectation{Fate: Untouched, Why: "ipMode Proxy: the node leaves the address to the load balancer"}
		if !n.Release.Before(30) {
			return untouched
		}
		path.Proxied = false // 1.29 knows ipMode only behind a feature gate
		out := m.Expect(path, c, n, mode)
		out.Alternatives = append(out.Alternatives, untouched)
		return out
	}
	set := m.eligibleOn(m.Ports[path.PortIndex], n)
	if mode == IPVS {
		return m.expectIPVS(path, c, set)
	}
	if !path.external() {
		return m.expectClusterIP(path, c, n, set)
	}
	if path.Kind == LoadBalancerIP && !m.sourceAllowed(path, c, n) && (set.any || mode == NFTables) {
		return Expectation{Fate: Dropped, Why: "the source is not in loadBalancerSourceRanges"}
	}
	if !set.any {
		out := Expectation{Fate: Rejected, Why: "no endpoint is usable anywhere"}
		if path.Kind != NodePort && c.Kind == FromNode && mode != NFTables {
			// iptables hooks KUBE-EXTERNAL-SERVICES in INPUT and FORWARD only, so the node's own packet leaves by its route.
			out.Alternatives = []Expectation{{Fate: Untouched, Why: "without endpoints, iptables mode leaves the node's own packets to an external address alone"}}
		}
		return out
	}
	if !m.ExternalLocal {
		return m.translated(c, set.cluster, set.how, Masqueraded)
	}
	return m.expectExternalLocal(path, c, n, mode, set)
}

// expectClusterIP follows internalTrafficPolicy. Whether the source is replaced depends on kube-proxy's clusterCIDR and
// masqueradeAll, which the API shows only where its configuration can be read.
func (m *Model) expectClusterIP(path AccessPath, c Client, n Node, set eligible) Expectation {
	if !set.any {
		return Expectation{Fate: Rejected, Why: "no endpoint is usable anywhere"}
	}
	eps, how := set.cluster, set.how
	if m.InternalLocal {
		eps, how = set.local, joinWords("internalTrafficPolicy Local: endpoints on the node only", set.localHow)
		if len(eps) == 0 {
			return Expectation{Fate: Dropped, Why: "internalTrafficPolicy Local, and no usable endpoint runs on the node"}
		}
	}
	return m.translated(c, eps, how, m.clusterIPMasquerade(c, n, path.Family))
}

// expectExternalLocal follows externalTrafficPolicy Local: pods and the node itself take the short way to all endpoints,
// everybody else gets the node's own endpoints or nothing.
func (m *Model) expectExternalLocal(path AccessPath, c Client, n Node, mode Mode, set eligible) Expectation {
	local := m.translated(c, set.local, joinWords("externalTrafficPolicy Local: endpoints on the node only", set.localHow), SourceKept)
	if len(set.local) == 0 {
		local = Expectation{Fate: Dropped, Why: "externalTrafficPolicy Local, and no usable endpoint runs on the node"}
	}
	takes, certain := m.shortcut(c, n, path.Family)
	switch {
	case takes:
		out := m.translated(c, set.cluster, joinWords("externalTrafficPolicy Local does not bind pods", set.how), SourceKept)
		if certain {
			return out
		}
		local.Why += " (kube-proxy does not know the pod range)"
		out.Alternatives = []Expectation{local}
		return out
	case c.Kind == FromNode:
		out := m.translated(c, set.cluster, joinWords("externalTrafficPolicy Local does not bind the node itself", set.how), Masqueraded)
		if mode == NFTables && len(set.local) == 0 && n.Release.Before(34) {
			// Up to 1.32, and in 1.33 before 1.33.6, the chain that drops for want of a local endpoint stood before the translation.
			dropped := Expectation{Fate: Dropped, Why: "externalTrafficPolicy Local: nftables mode before 1.34 drops the node's own packets without a local endpoint"}
			if n.Release.Before(33) {
				return dropped
			}
			out.Alternatives = []Expectation{dropped}
		}
		return out
	default:
		return local
	}
}

// expectIPVS follows IPVS mode: Local falls back to all endpoints instead of dropping, nobody takes a short way, and a
// virtual server without endpoints answers with port unreachable.
func (m *Model) expectIPVS(path AccessPath, c Client, set eligible) Expectation {
	if path.Kind == LoadBalancerIP && !m.sourceAllowed(path, c, Node{}) && c.Kind != FromNode {
		return Expectation{Fate: Dropped, Why: "the source is not in loadBalancerSourceRanges"}
	}
	eps, how, masq := set.cluster, set.how, MasqueradeUnknown
	local := m.InternalLocal
	if path.external() {
		local, masq = m.ExternalLocal, Masqueraded
		if local {
			masq = SourceKept
		}
	}
	if local && len(set.local) > 0 {
		eps, how = set.local, joinWords("the policy Local: endpoints on the node only", set.localHow)
	} else if local {
		how = joinWords("the policy Local finds no endpoint on the node, and IPVS mode falls back to all", set.how)
	}
	if len(eps) == 0 {
		return Expectation{Fate: Rejected, Why: "no endpoint is usable anywhere"}
	}
	return m.translated(c, eps, how, masq)
}

// translated expects equal shares. A client that is itself the endpoint is masqueraded whatever the policy (hairpin).
func (m *Model) translated(c Client, eps []Endpoint, why string, masq Masquerade) Expectation {
	out := Expectation{Fate: Translated, Why: why, Sticky: m.Affinity > 0}
	for _, e := range eps {
		s := Share{Endpoint: e, Masquerade: masq}
		if c.Kind == FromPod && c.Source == e.Address.Addr() {
			s.Masquerade = Masqueraded
		}
		out.Shares = append(out.Shares, s)
	}
	return out
}

// sourceAllowed applies loadBalancerSourceRanges: a family without a range is open, and from 1.34 a range of length 0
// opens its family. A node whose address is in a range is allowed too.
func (m *Model) sourceAllowed(path AccessPath, c Client, n Node) bool {
	var ranges []netip.Prefix
	for _, r := range m.SourceRanges {
		if FamilyOf(r.Addr()) == path.Family {
			ranges = append(ranges, r)
		}
	}
	if len(ranges) == 0 {
		return true
	}
	source := c.Source
	if c.Kind == FromNode {
		source, _ = n.Address(path.Family)
	}
	for _, r := range ranges {
		if r.Bits() == 0 || r.Contains(source) {
			return true
		}
	}
	return false
}

func joinWords(a, b string) string {
	if b == "" {
		return a
	}
	return a + "; " + b
}
