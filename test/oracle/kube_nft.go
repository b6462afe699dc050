//go:build linux

package oracle

import (
	"fmt"
	"strings"
)

// kubeNFT writes the rules of kube-proxy's nftables mode, one command a line: the layout of release 1.37, or that of 1.34
// with its chains for endpoints.
func kubeNFT(p *pool, cfg proxyConfig, services []service) string {
	n := &nftRules{kubeRules: kubeRules{p: p, cfg: cfg}, family: "ip", addr: "ipv4_addr", loopback: "127.0.0.0/8"}
	if !p.v4 {
		n.family, n.addr, n.loopback = "ip6", "ipv6_addr", "::1"
	}
	n.base()
	for i := range services {
		n.service(&services[i])
	}
	return strings.Join(n.chainLines, "\n") + "\n" + strings.Join(n.lines, "\n") + "\n"
}

// nftRules collects commands: chains and sets first, then what refers to them.
type nftRules struct {
	kubeRules
	family, addr, loopback string
	chainLines, lines      []string
}

func (n *nftRules) chain(format string, a ...any) {
	n.chainLines = append(n.chainLines, "add chain "+n.family+" kube-proxy "+fmt.Sprintf(format, a...))
}

func (n *nftRules) rule(chain, format string, a ...any) {
	n.lines = append(n.lines, "add rule "+n.family+" kube-proxy "+chain+" "+fmt.Sprintf(format, a...))
}

func (n *nftRules) element(set, format string, a ...any) {
	n.lines = append(n.lines, "add element "+n.family+" kube-proxy "+set+" { "+fmt.Sprintf(format, a...)+" }")
}

func (n *nftRules) base() {
	f := n.family
	n.chainLines = append(n.chainLines, "add table "+f+` kube-proxy { comment "rules for kube-proxy"; }`)
	for _, s := range []string{
		"add set F kube-proxy cluster-ips { type A; }",
		"add map F kube-proxy service-ips { type A . inet_proto . inet_service : verdict; }",
		"add map F kube-proxy service-nodeports { type inet_proto . inet_service : verdict; }",
		"add map F kube-proxy no-endpoint-services { type A . inet_proto . inet_service : verdict; }",
		"add map F kube-proxy no-endpoint-nodeports { type inet_proto . inet_service : verdict; }",
		"add map F kube-proxy firewall-ips { type A . inet_proto . inet_service : verdict; }",
		"add set F kube-proxy hairpin-connections { type A . A . inet_proto . inet_service; }",
	} {
		n.chainLines = append(n.chainLines, strings.NewReplacer(" F ", " "+f+" ", "type A ", "type "+n.addr+" ", "type A;", "type "+n.addr+";", ". A .", ". "+n.addr+" .").Replace(s))
	}
	for _, c := range []string{
		"filter-prerouting-pre-dnat { type filter hook prerouting priority -110; }",
		"filter-output-pre-dnat { type filter hook output priority -110; }",
		"filter-input { type filter hook input priority 0; }",
		"filter-forward { type filter hook forward priority 0; }",
		"filter-output { type filter hook output priority 0; }",
		"nat-prerouting { type nat hook prerouting priority dstnat; }",
		"nat-output { type nat hook output priority -100; }",
		"nat-postrouting { type nat hook postrouting priority srcnat; }",
		"services", "masquerading", "service-endpoints-check", "nodeport-endpoints-check", "cluster-ips-check", "firewall-check",
		"reject-chain", "mark-for-masquerade",
	} {
		n.chain("%s", c)
	}
	n.rule("filter-prerouting-pre-dnat", "ct state new jump firewall-check")
	n.rule("filter-output-pre-dnat", "ct state new jump firewall-check")
	n.rule("filter-input", "ct state new jump nodeport-endpoints-check")
	n.rule("filter-input", "ct state new jump service-endpoints-check")
	for _, c := range []string{"filter-forward", "filter-output"} {
		n.rule(c, "ct state new jump service-endpoints-check")
		n.rule(c, "ct state new jump cluster-ips-check")
	}
	n.rule("nat-prerouting", "jump services")
	n.rule("nat-output", "jump services")
	n.rule("nat-postrouting", "jump masquerading")
	if n.cfg.minor >= 36 {
		n.services36()
	}
	notLoopback := ""
	if !n.cfg.localhostNodePorts {
		notLoopback = f + " daddr != " + n.loopback + " "
	}
	n.rule("services", "%s daddr . meta l4proto . th dport vmap @service-ips", f)
	n.rule("services", "fib daddr type local %smeta l4proto . th dport vmap @service-nodeports", notLoopback)
	n.rule("service-endpoints-check", "%s daddr . meta l4proto . th dport vmap @no-endpoint-services", f)
	n.rule("nodeport-endpoints-check", "fib daddr type local %smeta l4proto . th dport vmap @no-endpoint-nodeports", notLoopback)
	n.rule("firewall-check", "%s daddr . meta l4proto . th dport vmap @firewall-ips", f)
	n.rule("cluster-ips-check", "%s daddr @cluster-ips reject", f)
	n.rule("reject-chain", "reject")
	n.rule("mark-for-masquerade", "mark set mark or %s", masqueradeMark)
	if n.cfg.minor >= 36 {
		n.rule("masquerading", "mark and %s != 0 mark set mark xor %s masquerade fully-random", masqueradeMark, masqueradeMark)
		n.rule("masquerading", "ct status dnat %s saddr . %s daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random", f, f)
		return
	}
	n.rule("masquerading", "mark and %s == 0 return", masqueradeMark)
	n.rule("masquerading", "mark set mark xor %s", masqueradeMark)
	n.rule("masquerading", "masquerade fully-random")
}

// detect is the match for packets of local pods.
func (n *nftRules) detect(op string) string {
	switch n.cfg.detector {
	case "cidr":
		return fmt.Sprintf("%s saddr %s%s ", n.family, op, n.p.podCIDR)
	case "interface":
		return "iifname " + op + "\"p*\" "
	}
	return ""
}

func (n *nftRules) services36() {
	if n.cfg.masqueradeAll {
		n.rule("services", "%s daddr @cluster-ips mark set mark or %s", n.family, masqueradeMark)
	} else if m := n.detect("!= "); m != "" {
		n.rule("services", "%s daddr @cluster-ips %smark set mark or %s", n.family, m, masqueradeMark)
	}
}

func (n *nftRules) service(s *service) {
	key := fmt.Sprintf("%%s . %s . %d", s.proto, s.port)
	n.element("cluster-ips", "%s", s.clusterIP)
	any := len(s.cluster()) > 0
	refuse := "goto reject-chain"
	if any {
		refuse = "drop"
	}
	internal, external := s.internal(), s.fromOutside()
	if len(internal) > 0 {
		kind := "service"
		if s.internalLocal {
			kind = "local"
		}
		n.element("service-ips", key+" : goto %s", s.clusterIP, s.nftChain(kind))
	} else {
		n.element("no-endpoint-services", key+" comment \"%s\" : %s", s.clusterIP, s.id(), refuse)
	}
	for _, a := range append(s.external, s.loadBalancers...) {
		if any {
			n.element("service-ips", key+" : goto %s", a, s.nftChain("external"))
		}
		if len(external) == 0 {
			n.element("no-endpoint-services", key+" comment \"%s\" : %s", a, s.id(), refuse)
		}
	}
	if s.nodePort != 0 {
		if any {
			n.element("service-nodeports", "%s . %d : goto %s", s.proto, s.nodePort, s.nftChain("external"))
		}
		if len(external) == 0 {
			n.element("no-endpoint-nodeports", "%s . %d comment \"%s\" : %s", s.proto, s.nodePort, s.id(), refuse)
		}
	}
	if len(s.ranges) > 0 {
		fw := s.nftChain("firewall")
		n.chain("%s", fw)
		allowed := make([]string, len(s.ranges))
		for i, r := range s.ranges {
			allowed[i] = r.String()
		}
		n.rule(fw, "%s saddr != { %s } drop", n.family, strings.Join(allowed, ", "))
		for _, a := range s.loadBalancers {
			n.element("firewall-ips", key+" comment \"%s\" : goto %s", a, s.id(), fw)
		}
	}
	if s.usesCluster() && any {
		n.balance(s, s.nftChain("service"), s.cluster(), !s.internalLocal)
	}
	if s.usesLocal() && len(s.local()) > 0 {
		n.balance(s, s.nftChain("local"), s.local(), s.internalLocal)
	}
	if any && s.hasExternal() {
		n.external(s)
	}
	n.endpoints(s)
}

func (n *nftRules) external(s *service) {
	ext, svc := s.nftChain("external"), s.nftChain("service")
	n.chain("%s", ext)
	mark := "mark set mark or " + masqueradeMark
	if n.cfg.minor < 36 {
		mark = "jump mark-for-masquerade"
	}
	if !s.localOnly {
		n.rule(ext, "%s", mark)
		n.rule(ext, "goto %s", svc)
		return
	}
	if m := n.detect(""); m != "" {
		n.rule(ext, "%sgoto %s comment \"short-circuit pod traffic\"", m, svc)
	}
	n.rule(ext, "fib saddr type local %s comment \"masquerade local traffic\"", mark)
	n.rule(ext, "fib saddr type local goto %s comment \"short-circuit local traffic\"", svc)
	if len(s.local()) > 0 {
		n.rule(ext, "goto %s", s.nftChain("local"))
	}
}

// balance is a chain that chooses among endpoints.
func (n *nftRules) balance(s *service, chain string, endpoints []endpoint, masquerade bool) {
	n.chain("%s", chain)
	if n.cfg.minor < 36 && masquerade {
		m := n.detect("!= ")
		if n.cfg.masqueradeAll {
			m = " "
		}
		if m != "" {
			n.rule(chain, "%s daddr %s %sjump mark-for-masquerade", n.family, s.clusterIP, strings.TrimPrefix(m, " "))
		}
	}
	if s.affinity {
		for _, e := range endpoints {
			n.rule(chain, "%s saddr @%s goto %s", n.family, s.nftEndpoint("affinity", e), s.nftEndpoint("endpoint", e))
		}
	}
	items := make([]string, len(endpoints))
	if n.cfg.minor >= 36 && !s.affinity {
		if len(endpoints) == 1 {
			n.rule(chain, "meta l4proto %s dnat to %s", s.proto, end(endpoints[0].addr, endpoints[0].port))
			return
		}
		for i, e := range endpoints {
			items[i] = fmt.Sprintf("%d : %s . %d", i, e.addr, e.port)
		}
		n.rule(chain, "meta l4proto %s dnat %s addr . port to numgen random mod %d map { %s }", s.proto, n.family, len(endpoints), strings.Join(items, ", "))
		return
	}
	for i, e := range endpoints {
		items[i] = fmt.Sprintf("%d : goto %s", i, s.nftEndpoint("endpoint", e))
	}
	n.rule(chain, "numgen random mod %d vmap { %s }", len(endpoints), strings.Join(items, ", "))
}

func (n *nftRules) endpoints(s *service) {
	f := n.family
	for _, e := range s.endpoints {
		if e.local {
			n.element("hairpin-connections", "%s . %s . %s . %d", e.addr, e.addr, s.proto, e.port)
		}
		if n.cfg.minor >= 36 && !s.affinity {
			continue
		}
		c := s.nftEndpoint("endpoint", e)
		n.chain("%s", c)
		if n.cfg.minor < 36 {
			n.rule(c, "%s saddr %s jump mark-for-masquerade", f, e.addr)
		}
		if s.affinity {
			set := s.nftEndpoint("affinity", e)
			n.chainLines = append(n.chainLines, fmt.Sprintf("add set %s kube-proxy %s { type %s; flags dynamic,timeout; timeout 10800s; }", f, set, n.addr))
			n.rule(c, "update @%s { %s saddr }", set, f)
		}
		n.rule(c, "meta l4proto %s dnat to %s", s.proto, end(e.addr, e.port))
	}
}
