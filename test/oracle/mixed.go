//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"strings"
)

// skeleton is the rules of other software beside kube-proxy's: how it lays its chains, not every rule it can have.
type skeleton struct {
	name string
	// v4only is set when it has no IPv6 rules.
	v4only bool
	// legacyOrNFT is true for rules of iptables, which go to either backend; false for native nftables.
	legacyOrNFT bool
	rules       func(d dice, p *pool) string
}

var skeletons = []skeleton{
	{"docker", true, true, dockerRules},
	{"calico", false, true, calicoRules},
	{"mesh", false, true, meshRules},
	{"ufw", false, true, ufwRules},
	{"firewalld", false, false, firewalldRules},
	{"operator", false, false, operatorRules},
	{"flannel", false, true, flannelRules},
}

func dockerRules(d dice, p *pool) string {
	return `*filter
:FORWARD ` + pick(d, "DROP", "ACCEPT") + ` [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o p3 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o p3 -j DOCKER
-A FORWARD -i p3 ! -o p3 -j ACCEPT
-A FORWARD -i p3 -o p3 -j ACCEPT
-A DOCKER -d 10.244.1.13/32 ! -i p3 -o p3 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i p3 ! -o p3 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o p2 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.244.1.13/32 ! -o p3 -j MASQUERADE
-A POSTROUTING -s 10.244.1.13/32 -d 10.244.1.13/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i p3 -j RETURN
-A DOCKER ! -i p3 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.1.13:80
COMMIT
`
}

func calicoRules(d dice, p *pool) string {
	first, second := p.pods[0], p.pods[1]
	policy := pick(d, "-p tcp -m multiport --dports 80,8080", "-s "+p.podCIDR.String(), "-p udp", "-p tcp -m tcp --dport 9376")
	return fmt.Sprintf(`*raw
:cali-PREROUTING - [0:0]
-A PREROUTING -j cali-PREROUTING
-A cali-PREROUTING -j MARK --set-xmark 0x0/0xe0000
-A cali-PREROUTING -i p+ -j MARK --set-xmark 0x40000/0x40000
COMMIT
*mangle
:cali-PREROUTING - [0:0]
:cali-POSTROUTING - [0:0]
-A PREROUTING -j cali-PREROUTING
-A POSTROUTING -j cali-POSTROUTING
-A cali-PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-POSTROUTING -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-POSTROUTING -m conntrack --ctstate DNAT -j MARK --set-xmark 0x20000/0x20000
COMMIT
*filter
:cali-FORWARD - [0:0]
:cali-INPUT - [0:0]
:cali-to-wl - [0:0]
:cali-from-wl - [0:0]
:cali-tw-p1 - [0:0]
:cali-fw-p1 - [0:0]
:cali-pi-policy - [0:0]
-A FORWARD -j cali-FORWARD
-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT
-A INPUT -j cali-INPUT
-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -i p+ -j cali-from-wl
-A cali-FORWARD -o p+ -j cali-to-wl
-A cali-INPUT -i p+ -p udp -m udp --dport 53 -j ACCEPT
-A cali-INPUT -i p+ -g cali-from-wl
-A cali-from-wl -i p1 -g cali-fw-p1
-A cali-from-wl -i p2 -j RETURN
-A cali-from-wl -i p3 -j RETURN
-A cali-from-wl -m comment --comment "Unknown interface" -j DROP
-A cali-to-wl -o p1 -g cali-tw-p1
-A cali-fw-p1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-p1 -m conntrack --ctstate INVALID -j DROP
-A cali-fw-p1 ! -s %s -j DROP
-A cali-fw-p1 -j MARK --set-xmark 0x10000/0x10000
-A cali-fw-p1 -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-p1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-tw-p1 -m conntrack --ctstate INVALID -j DROP
-A cali-tw-p1 -j MARK --set-xmark 0x0/0x30000
-A cali-tw-p1 -j cali-pi-policy
-A cali-tw-p1 -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-p1 -m comment --comment "Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP
-A cali-pi-policy %s -j MARK --set-xmark 0x10000/0x10000
-A cali-pi-policy -s %s -m mark --mark 0x0/0x10000 -j MARK --set-xmark 0x10000/0x10000
COMMIT
*nat
:cali-POSTROUTING - [0:0]
:cali-nat-outgoing - [0:0]
-A POSTROUTING -j cali-POSTROUTING
-A cali-POSTROUTING -j cali-nat-outgoing
-A cali-nat-outgoing -s %s ! -d %s -j MASQUERADE%s
COMMIT
`, hostPrefix(first), policy, hostPrefix(second), p.podCIDR, p.podCIDR, pick(d, " --random-fully", ""))
}

func meshRules(d dice, p *pool) string {
	self := hostPrefix(p.nodes[3])
	return fmt.Sprintf(`*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 443 -j RETURN
-A ISTIO_INBOUND -i %s -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT ! -d %s -o lo -p tcp -m tcp ! --dport 53 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -d %s -j RETURN
-A ISTIO_OUTPUT -p tcp -m tcp --dport 8080 -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
`, pick(d, "eth1", "p2"), self, self)
}

func ufwRules(d dice, p *pool) string {
	return `*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-user-input - [0:0]
:ufw-logging-deny - [0:0]
:ufw-not-local - [0:0]
-A INPUT -j ufw-before-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -j ufw-user-input
-A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -j DROP
-A ufw-user-input -p ` + pick(d, "tcp -m tcp --dport 80", "udp -m udp --dport 53", "tcp -m multiport --dports 30000:30009") + ` -j ACCEPT
COMMIT
`
}

func flannelRules(d dice, p *pool) string {
	cluster := "10.244.0.0/16"
	if !p.v4 {
		cluster = "fd00:10:244::/48"
	}
	return fmt.Sprintf(`*filter
:FLANNEL-FWD - [0:0]
-A FORWARD -j FLANNEL-FWD
-A FLANNEL-FWD -s %[1]s -j ACCEPT
-A FLANNEL-FWD -d %[1]s -j ACCEPT
COMMIT
*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN
-A FLANNEL-POSTRTG -s %[2]s -d %[1]s -j RETURN
-A FLANNEL-POSTRTG -s %[1]s -d %[2]s -j RETURN
-A FLANNEL-POSTRTG ! -s %[1]s -d %[2]s -j RETURN
-A FLANNEL-POSTRTG -s %[1]s ! -d %[3]s -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s %[1]s -d %[1]s -j MASQUERADE --random-fully
COMMIT
`, cluster, p.podCIDR, map[bool]string{true: "224.0.0.0/4", false: "ff00::/8"}[p.v4])
}

func firewalldRules(d dice, p *pool) string {
	return strings.ReplaceAll(`add table inet firewalld
add chain inet firewalld mangle_PREROUTING { type filter hook prerouting priority -140; policy accept; }
add chain inet firewalld nat_PREROUTING { type nat hook prerouting priority -90; policy accept; }
add chain inet firewalld nat_POSTROUTING { type nat hook postrouting priority 110; policy accept; }
add chain inet firewalld filter_INPUT { type filter hook input priority 10; policy accept; }
add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }
add chain inet firewalld filter_IN_public
add chain inet firewalld filter_IN_public_allow
add chain inet firewalld filter_FWD_public
add chain inet firewalld nat_POST_public
add rule inet firewalld filter_INPUT ct state { established, related } accept
add rule inet firewalld filter_INPUT ct status dnat accept
add rule inet firewalld filter_INPUT iifname "lo" accept
add rule inet firewalld filter_INPUT ct state invalid drop
add rule inet firewalld filter_INPUT goto filter_IN_public
add rule inet firewalld filter_IN_public jump filter_IN_public_allow
add rule inet firewalld filter_IN_public meta l4proto { icmp, ipv6-icmp } accept
add rule inet firewalld filter_IN_public reject with icmpx type admin-prohibited
add rule inet firewalld filter_IN_public_allow PORT ct state { new, untracked } accept
add rule inet firewalld filter_FORWARD ct state { established, related } accept
add rule inet firewalld filter_FORWARD ct status dnat accept
add rule inet firewalld filter_FORWARD iifname "lo" accept
add rule inet firewalld filter_FORWARD ct state invalid drop
add rule inet firewalld filter_FORWARD iifname vmap { "p1" : accept, "p2" : accept, "ext" : goto filter_FWD_public }
add rule inet firewalld filter_FORWARD reject with icmpx type admin-prohibited
add rule inet firewalld filter_FWD_public meta l4proto { icmp, ipv6-icmp } accept
add rule inet firewalld filter_FWD_public oifname { "p1", "p2" } accept
add rule inet firewalld filter_FWD_public reject with icmpx type host-unreachable
add rule inet firewalld nat_POSTROUTING oifname "ext" goto nat_POST_public
add rule inet firewalld nat_POST_public oifname != "lo" masquerade
`, "PORT", pick(d, "tcp dport 80", "tcp dport { 80, 443 }", "udp dport 53", "tcp dport 30000-32767"))
}

func operatorRules(d dice, p *pool) string {
	priority := func() int { return pick(d, -150, -5, 0, 5, 20) }
	family := "ip"
	if !p.v4 {
		family = "ip6"
	}
	return fmt.Sprintf(`add table inet operator
add set inet operator banned { type %[2]s_addr; flags interval; elements = { %[3]s, %[4]s }; }
add chain inet operator early { type filter hook prerouting priority %[5]d; }
add chain inet operator in { type filter hook input priority %[6]d; }
add chain inet operator forw { type filter hook forward priority %[7]d; }
add chain inet operator out { type filter hook output priority %[8]d; }
add rule inet operator early %[1]s saddr @banned counter drop
add rule inet operator in tcp dport 443 ct state new limit rate over 100000/second drop
add rule inet operator in udp dport 53 reject
add rule inet operator forw ct state established,related accept
add rule inet operator forw %[1]s daddr %[9]s tcp dport { 80, 8080 } counter drop
add rule inet operator out oifname "eth1" udp dport 53 reject with icmpx type admin-prohibited
`, family, map[bool]string{true: "ipv4", false: "ipv6"}[p.v4], p.clients["ext"][1], p.pods[2], priority(), priority(), priority(), priority(), p.pods[1])
}

// mixedCase is kube-proxy's rules in one form with other software's in the same or another backend.
func mixedCase(seed, n uint64) *Case {
	d := newDice(seed, n)
	p, tool := &pool4, "iptables"
	if d.one(3) {
		p, tool = &pool6, "ip6tables"
	}
	cfg := randomConfig(d)
	services := randomServices(d, p, 3+d.IntN(3))
	c := &Case{AnswersMayDie: true}
	kube := pick(d, "legacy", "nft", "native")
	proxy := Step{tool + "-" + kube, kubeIPTables(p, cfg, services)}
	if kube == "native" {
		proxy = Step{"nft", kubeNFT(p, cfg, services)}
	}
	names := []string{kube}
	before, after := []Step{}, []Step{}
	for range 1 + d.IntN(3) {
		k := pick(d, skeletons...)
		if k.v4only && !p.v4 || strings.Contains(strings.Join(names, " "), k.name) {
			continue
		}
		s := Step{"nft", k.rules(d, p)}
		backend := "nft"
		if k.legacyOrNFT {
			backend = pick(d, "legacy", "nft")
			if kube != "native" && !d.one(3) {
				backend = kube
			}
			s.Tool = tool + "-" + backend
		}
		names = append(names, k.name+"/"+backend)
		if d.one(2) {
			before = append(before, s)
		} else {
			after = append(after, s)
		}
	}
	c.Steps = append(append(append(randomNode(d, p), before...), proxy), after...)
	c.Name = fmt.Sprintf("mixed seed %d number %d: %s", seed, n, strings.Join(names, ", "))
	c.Shots = append(kubeShots(d, p, services), generalShots(d, p, 12)...)
	var ports sourcePorts
	for i, s := range c.Shots {
		if s.Proto != protoICMP && s.Proto != protoICMPv6 {
			c.Shots[i].Src = netip.AddrPortFrom(s.Src.Addr(), ports.take())
		}
	}
	return c
}
