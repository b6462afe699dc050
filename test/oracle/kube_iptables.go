//go:build linux

package oracle

import (
	"fmt"
	"strings"
)

const masqueradeMark = "0x4000"

// kubeIPTables writes the rules of kube-proxy's iptables mode, as iptables-restore reads them.
func kubeIPTables(p *pool, cfg proxyConfig, services []service) string {
	k := &kubeRules{p: p, cfg: cfg}
	for i := range services {
		k.service(&services[i])
	}
	loopback := "! -d ::1/128 "
	if p.v4 {
		loopback = "! -d 127.0.0.0/8 "
		if cfg.localhostNodePorts {
			loopback = ""
		}
	}
	k.nat(`-A KUBE-SERVICES %s-m comment --comment "kubernetes service nodeports" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`, loopback)
	var b strings.Builder
	table := func(name string, chains []string, jumps string, rules []string) {
		fmt.Fprintf(&b, "*%s\n", name)
		for _, c := range chains {
			fmt.Fprintf(&b, ":%s - [0:0]\n", c)
		}
		b.WriteString(jumps)
		for _, r := range rules {
			b.WriteString(r + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	table("mangle", []string{"KUBE-IPTABLES-HINT", "KUBE-PROXY-CANARY"}, "", nil)
	table("filter", []string{"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL"}, kubeFilterJumps(p, cfg), k.filterRules)
	table("nat", append([]string{"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"}, k.chains...), kubeNATJumps, k.natRules)
	return b.String()
}

const kubeNATJumps = `-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark ` + masqueradeMark + `
-A KUBE-POSTROUTING -m mark ! --mark ` + masqueradeMark + "/" + masqueradeMark + ` -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark ` + masqueradeMark + `
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
`

func kubeFilterJumps(p *pool, cfg proxyConfig) string {
	j := `-A INPUT -j KUBE-FIREWALL
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark ` + masqueradeMark + "/" + masqueradeMark + ` -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
`
	if p.v4 && cfg.localhostNodePorts {
		j += "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n"
	}
	return j
}

// kubeRules collects rules.
type kubeRules struct {
	p                     *pool
	cfg                   proxyConfig
	chains                []string
	natRules, filterRules []string
}

func (k *kubeRules) nat(format string, a ...any) {
	k.natRules = append(k.natRules, fmt.Sprintf(format, a...))
}

func (k *kubeRules) filter(format string, a ...any) {
	k.filterRules = append(k.filterRules, fmt.Sprintf(format, a...))
}

// fromPod is the match for packets of local pods, or its inversion; empty without a detector.
func (k *kubeRules) fromPod(not bool) string {
	inv := ""
	if not {
		inv = "! "
	}
	switch k.cfg.detector {
	case "cidr":
		return inv + "-s " + k.p.podCIDR.String() + " "
	case "interface":
		return inv + "-i p+ "
	}
	return ""
}

func (k *kubeRules) service(s *service) {
	to := func(ip string, port uint16) string { return fmt.Sprintf("-p %s -d %s --dport %d", s.proto, ip, port) }
	cluster := to(hostPrefix(s.clusterIP), s.port)
	internal, external := s.internal(), s.fromOutside()
	ext := s.chain("EXT")
	if len(internal) > 0 {
		kind := "SVC"
		if s.internalLocal {
			kind = "SVL"
		}
		k.nat(`-A KUBE-SERVICES %s -m comment --comment "%s cluster IP" -j %s`, cluster, s.id(), s.chain(kind))
	} else if len(s.cluster()) > 0 {
		k.filter(`-A KUBE-SERVICES %s -m comment --comment "%s has no local endpoints" -j DROP`, cluster, s.id())
	} else {
		k.filter(`-A KUBE-SERVICES %s -m comment --comment "%s has no endpoints" -j REJECT`, cluster, s.id())
	}
	refuse, why := "DROP", "has no local endpoints"
	if len(s.cluster()) == 0 {
		refuse, why = "REJECT", "has no endpoints"
	}
	any := len(s.cluster()) > 0
	for _, a := range s.external {
		m := to(hostPrefix(a), s.port)
		if any {
			k.nat(`-A KUBE-SERVICES %s -m comment --comment "%s external IP" -j %s`, m, s.id(), ext)
		}
		if len(external) == 0 {
			k.filter(`-A KUBE-EXTERNAL-SERVICES %s -m comment --comment "%s %s" -j %s`, m, s.id(), why, refuse)
		}
	}
	for _, a := range s.loadBalancers {
		m := to(hostPrefix(a), s.port)
		target := ext
		if len(s.ranges) > 0 {
			target = s.chain("FW")
			k.filter(`-A KUBE-PROXY-FIREWALL %s -m comment --comment "%s traffic not accepted by %s" -j DROP`, m, s.id(), target)
		}
		if any {
			k.nat(`-A KUBE-SERVICES %s -m comment --comment "%s loadbalancer IP" -j %s`, m, s.id(), target)
		}
		if len(external) == 0 {
			k.filter(`-A KUBE-EXTERNAL-SERVICES %s -m comment --comment "%s %s" -j %s`, m, s.id(), why, refuse)
		}
	}
	if s.nodePort != 0 {
		if any {
			k.nat(`-A KUBE-NODEPORTS -p %s -m comment --comment %s --dport %d -j %s`, s.proto, s.id(), s.nodePort, ext)
		}
		if len(external) == 0 {
			k.filter(`-A KUBE-EXTERNAL-SERVICES -m addrtype --dst-type LOCAL -p %s --dport %d -m comment --comment "%s %s" -j %s`, s.proto, s.nodePort, s.id(), why, refuse)
		}
	}
	if any && s.hasExternal() {
		k.externalChain(s, ext)
	}
	k.balance(s, cluster)
	k.endpointChains(s)
}

// externalChain is KUBE-EXT, and KUBE-FW before it.
func (k *kubeRules) externalChain(s *service, ext string) {
	k.chains = append(k.chains, ext)
	svc, svl := s.chain("SVC"), s.chain("SVL")
	if !s.localOnly {
		k.nat(`-A %s -m comment --comment "masquerade traffic for %s external destinations" -j KUBE-MARK-MASQ`, ext, s.id())
		k.nat(`-A %s -j %s`, ext, svc)
	} else {
		if m := k.fromPod(false); m != "" {
			k.nat(`-A %s %s-m comment --comment "pod traffic for %s external destinations" -j %s`, ext, m, s.id(), svc)
		}
		k.nat(`-A %s -m comment --comment "masquerade LOCAL traffic for %s external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ`, ext, s.id())
		k.nat(`-A %s -m comment --comment "route LOCAL traffic for %s external destinations" -m addrtype --src-type LOCAL -j %s`, ext, s.id(), svc)
		if len(s.local()) > 0 {
			k.nat(`-A %s -j %s`, ext, svl)
		}
	}
	if len(s.ranges) == 0 {
		return
	}
	fw := s.chain("FW")
	k.chains = append(k.chains, fw)
	node := false
	for _, r := range s.ranges {
		k.nat(`-A %s -s %s -m comment --comment "%s loadbalancer IP" -j %s`, fw, r, s.id(), ext)
		node = node || r.Contains(k.p.nodes[0])
	}
	if node {
		for _, a := range s.loadBalancers {
			k.nat(`-A %s -s %s -m comment --comment "%s loadbalancer IP" -j %s`, fw, hostPrefix(a), s.id(), ext)
		}
	}
	k.nat(`-A %s -m comment --comment "other traffic to %s will be dropped by KUBE-PROXY-FIREWALL"`, fw, s.id())
}

// balance is KUBE-SVC and KUBE-SVL.
func (k *kubeRules) balance(s *service, cluster string) {
	write := func(chain string, endpoints []endpoint, masquerade bool) {
		k.chains = append(k.chains, chain)
		if masquerade {
			switch m := k.fromPod(true); {
			case k.cfg.masqueradeAll:
				k.nat(`-A %s %s -m comment --comment "%s cluster IP" -j KUBE-MARK-MASQ`, chain, cluster, s.id())
			case m != "":
				k.nat(`-A %s %s%s -m comment --comment "%s cluster IP" -j KUBE-MARK-MASQ`, chain, m, cluster, s.id())
			}
		}
		if s.affinity {
			for _, e := range endpoints {
				c := s.endpointChain(e)
				k.nat(`-A %s -m comment --comment "%s -> %s" -m recent --name %s --rcheck --seconds 10800 --reap -j %s`, chain, s.id(), end(e.addr, e.port), c, c)
			}
		}
		for i, e := range endpoints {
			chance := ""
			if n := len(endpoints) - i; n > 1 {
				chance = fmt.Sprintf("-m statistic --mode random --probability %.10f ", 1/float64(n))
			}
			k.nat(`-A %s -m comment --comment "%s -> %s" %s-j %s`, chain, s.id(), end(e.addr, e.port), chance, s.endpointChain(e))
		}
	}
	if s.usesCluster() && len(s.cluster()) > 0 {
		write(s.chain("SVC"), s.cluster(), !s.internalLocal)
	}
	if s.usesLocal() && len(s.local()) > 0 {
		write(s.chain("SVL"), s.local(), s.internalLocal)
	}
}

func (k *kubeRules) endpointChains(s *service) {
	for _, e := range s.endpoints {
		c := s.endpointChain(e)
		k.chains = append(k.chains, c)
		k.nat(`-A %s -s %s -m comment --comment %s -j KUBE-MARK-MASQ`, c, hostPrefix(e.addr), s.id())
		set := ""
		if s.affinity {
			set = "-m recent --name " + c + " --set "
		}
		k.nat(`-A %s -m comment --comment %s %s-p %s -j DNAT --to-destination %s`, c, s.id(), set, s.proto, end(e.addr, e.port))
	}
}
