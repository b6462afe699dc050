//go:build linux

package oracle

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// service is a port of a Service as kube-proxy sees it.
type service struct {
	name, portName string
	proto          string
	clusterIP      netip.Addr
	port           uint16
	nodePort       uint16
	external       []netip.Addr
	loadBalancers  []netip.Addr
	ranges         []netip.Prefix
	// localOnly and internalLocal are the traffic policies Local.
	localOnly, internalLocal bool
	affinity                 bool
	endpoints                []endpoint
}

type endpoint struct {
	addr  netip.Addr
	port  uint16
	local bool
}

// proxyConfig is the part of kube-proxy's configuration that its rules depend on.
type proxyConfig struct {
	masqueradeAll bool
	// detector is how packets from local pods are told: by source range ("cidr"), by interface prefix ("interface"), or not.
	detector string
	// localhostNodePorts allows node ports on loopback addresses.
	localhostNodePorts bool
	// minor is the release of the nftables layout, 34 or 37.
	minor int
}

func randomConfig(d dice) proxyConfig {
	return proxyConfig{
		masqueradeAll:      d.one(6),
		detector:           pick(d, "cidr", "cidr", "interface", ""),
		localhostNodePorts: d.one(2),
		minor:              pick(d, 34, 37),
	}
}

// randomServices makes n service ports.
func randomServices(d dice, p *pool, n int) []service {
	var out []service
	usedPort := map[string]bool{}
	for i := range n {
		s := service{
			name: fmt.Sprintf("ns%d/svc%d", i%3, i), portName: pick(d, "", "http", "p80"),
			proto: pick(d, "tcp", "tcp", "tcp", "udp", "udp", "sctp"), clusterIP: pick(d, p.cluster...), port: pick[uint16](d, 53, 80, 443, 8080),
		}
		key := fmt.Sprint(s.proto, s.clusterIP, s.port)
		if usedPort[key] {
			continue
		}
		usedPort[key] = true
		s.localOnly, s.internalLocal, s.affinity = d.one(3), d.one(5), d.one(5)
		if d.one(2) {
			s.nodePort = uint16(30000 + i)
		}
		used := func(a netip.Addr) bool {
			key := fmt.Sprint(s.proto, a, s.port)
			was := usedPort[key]
			usedPort[key] = true
			return was
		}
		if a := pick(d, p.external...); d.one(3) && !used(a) {
			s.external = append(s.external, a)
		}
		if a := pick(d, p.loadBalancers...); d.one(3) && !used(a) {
			s.loadBalancers = append(s.loadBalancers, a)
			if d.one(2) {
				for range 1 + d.IntN(2) {
					all := slices.Concat(p.clients["ext"], p.clients["eth1"], p.nodes[:1], p.pods)
					r := netip.PrefixFrom(pick(d, all...), pick(d, all[0].BitLen(), all[0].BitLen()-8)).Masked()
					if !slices.ContainsFunc(s.ranges, func(x netip.Prefix) bool { return x.Overlaps(r) }) {
						s.ranges = append(s.ranges, r)
					}
				}
			}
		}
		for range pick(d, 0, 1, 1, 2, 2, 3, 5) {
			e := endpoint{port: pick[uint16](d, 80, 8080, 9376)}
			if d.one(2) {
				e.addr, e.local = pick(d, p.pods...), true
			} else {
				e.addr = pick(d, p.remote...)
			}
			if !slices.ContainsFunc(s.endpoints, func(x endpoint) bool { return x.addr == e.addr && x.port == e.port }) {
				s.endpoints = append(s.endpoints, e)
			}
		}
		out = append(out, s)
	}
	return out
}

// cluster and local are the endpoints that the policies Cluster and Local use.
func (s *service) cluster() []endpoint { return s.endpoints }

func (s *service) local() []endpoint {
	var out []endpoint
	for _, e := range s.endpoints {
		if e.local {
			out = append(out, e)
		}
	}
	return out
}

// internal are the endpoints behind the cluster IP, fromOutside those behind the other addresses.
func (s *service) internal() []endpoint {
	if s.internalLocal {
		return s.local()
	}
	return s.cluster()
}

func (s *service) fromOutside() []endpoint {
	if s.localOnly {
		return s.local()
	}
	return s.cluster()
}

func (s *service) hasExternal() bool {
	return s.nodePort != 0 || len(s.external)+len(s.loadBalancers) > 0
}

// usesCluster and usesLocal tell whether there is a chain for each policy.
func (s *service) usesCluster() bool { return !s.internalLocal || s.hasExternal() }
func (s *service) usesLocal() bool   { return s.internalLocal || s.localOnly && s.hasExternal() }

// id is the service port's name as kube-proxy writes it.
func (s *service) id() string {
	if s.portName == "" {
		return s.name
	}
	return s.name + ":" + s.portName
}

func hashed(n int, s string) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])[:n]
}

// chain is a per-service chain of iptables mode.
func (s *service) chain(kind string) string { return "KUBE-" + kind + "-" + hashed(16, s.id()+s.proto) }

func (s *service) endpointChain(e endpoint) string {
	return "KUBE-SEP-" + hashed(16, s.id()+s.proto+end(e.addr, e.port))
}

// nftChain is a per-service chain of nftables mode.
func (s *service) nftChain(kind string) string {
	x := s.name + "/" + s.proto + "/" + s.portName
	return kind + "-" + hashed(8, x) + "-" + x
}

func (s *service) nftEndpoint(kind string, e endpoint) string {
	x := fmt.Sprintf("%s/%s/%s__%s/%d", s.name, s.proto, s.portName, strings.ReplaceAll(e.addr.String(), ":", "."), e.port)
	return kind + "-" + hashed(8, x) + "-" + x
}
