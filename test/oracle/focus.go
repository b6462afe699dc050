//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"strings"
)

// A focus case has one rule that counts, which drops or refuses what it matches, behind rules that give it something to
// see: marks, a translation, sets. So the construct in the rule decides alone.

// focusMatch is a match and where it may stand.
type focusMatch struct {
	text string
	// proto is the protocol it needs, empty for any.
	proto string
	// hooks are where it may stand, empty for all.
	hooks string
	// family is 4 or 6 when it is of one family, else 0.
	family int
}

func focusMatches(d dice, p *pool) []focusMatch {
	src, dst := pick(d, p.clients["ext"]...), pick(d, p.pods...)
	inv := pick(d, "", "", "! ")
	list := []focusMatch{
		{inv + "-s " + hostPrefix(src), "", "", 0}, {inv + "-d " + hostPrefix(dst), "", "", 0},
		{inv + "-i " + pick(d, "ext", "p+", "p1"), "", "PREROUTING INPUT FORWARD", 0}, {inv + "-o " + pick(d, "ext", "p+", "p1"), "", "FORWARD OUTPUT POSTROUTING", 0},
		{"-m addrtype " + inv + "--dst-type " + pick(d, "LOCAL", "UNICAST"), "", "", 0},
		{"-m addrtype " + inv + "--src-type LOCAL", "", "", 0},
		{"-m addrtype --dst-type LOCAL --limit-iface-in", "", "PREROUTING INPUT", 0},
		{"-m comment --comment x", "", "", 0},
		{"-m connbytes --connbytes 0:100000 --connbytes-dir both --connbytes-mode bytes", "", "", 0},
		{"-m connlabel ! --label 1", "", "", 0},
		{"-m connmark " + inv + "--mark 0x1", "", "FORWARD POSTROUTING INPUT", 0},
		{"-m conntrack " + inv + "--ctstate " + pick(d, "NEW", "DNAT", "ESTABLISHED"), "", "", 0},
		{"-m conntrack " + inv + "--ctorigdst " + p.nodes[0].String(), "", "", 0},
		{"-m conntrack --ctproto " + pick(d, "tcp", "udp"), "", "", 0},
		{"-m devgroup " + inv + "--src-group 5", "", "PREROUTING INPUT FORWARD", 0},
		{"-m dscp " + inv + "--dscp 0x00", "", "", 0},
		{"-m ecn --ecn-ip-ect 0", "", "", 0},
		{"-m helper ! --helper ftp", "", "", 0},
		{"-m iprange " + inv + fmt.Sprintf("--dst-range %s-%s", p.pods[0], p.pods[1]), "", "", 0},
		{"-m length --length " + pick(d, "0:1500", "0:50"), "", "", 0},
		{"-m mark " + inv + "--mark " + pick(d, "0x1", "0x1/0x1"), "", "", 0},
		{"-m multiport " + inv + "--dports 80,443", "tcp", "", 0}, {"-m multiport --ports 80,20001:30000", "udp", "", 0},
		{"-m owner --uid-owner 0", "", "OUTPUT", 0}, {"-m owner --socket-exists", "", "OUTPUT POSTROUTING", 0},
		{"-m pkttype " + inv + "--pkt-type unicast", "", "PREROUTING INPUT FORWARD", 0},
		{"-m policy --pol none --dir in", "", "PREROUTING INPUT FORWARD", 0},
		{"-m recent --name f --set", "", "", 0}, {"-m recent --name f --update --seconds 60 --hitcount 2", "", "", 0},
		{"-m rpfilter " + pick(d, "", "--loose", "--invert"), "", "PREROUTING", 0},
		{"-m sctp --dport 80", "sctp", "", 0}, {"-m sctp --chunk-types any INIT", "sctp", "", 0},
		{"-m set " + inv + "--match-set fs " + pick(d, "src", "dst"), "", "", 0},
		{"-m set --match-set fp dst,dst", "", "", 0},
		{"-m socket", "", "PREROUTING INPUT", 0}, {"-m socket --transparent", "", "PREROUTING", 0},
		{"-m state --state NEW", "", "", 0},
		{"-m statistic --mode random " + inv + "--probability 0.5", "", "", 0},
		{"-m tcp " + inv + "--dport 80", "tcp", "", 0}, {"-m tcp --syn", "tcp", "", 0},
		{"-m udp " + inv + "--sport 20001:20010", "udp", "", 0},
		{"-m u32 --u32 \"0>>28=4,6\"", "", "", 0},
		{fmt.Sprintf("-m cluster --cluster-total-nodes 2 %s--cluster-local-node 1 --cluster-hash-seed 0x%x", inv, 1+d.IntN(1<<30)), "", "PREROUTING INPUT FORWARD", 0},
		{fmt.Sprintf("-m cluster --cluster-total-nodes 3 --cluster-local-nodemask 5 --cluster-hash-seed 0x%x", 1+d.IntN(1<<30)), "", "FORWARD", 0},
		{"-m bpf --bytecode \"4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0\"", "", "", 4},
		{"-m tcpmss ! --mss 1:65535", "tcp", "", 0},
		{"-m quota --quota 1000000", "", "", 0}, {"-m limit --limit 1000/s", "", "", 0}, {"-m cpu --cpu 0", "", "", 0},
		{"-m hashlimit --hashlimit-above 1000/s --hashlimit-mode srcip --hashlimit-name fh", "", "", 0},
		{"-m connlimit --connlimit-above 0", "", "", 0}, {"-m time --timestart 00:00 --timestop 23:59:59", "", "", 0},
		{"-m string --string SVCT --algo bm", "", "", 0}, {"-m physdev --physdev-in x", "", "PREROUTING", 0},
		{"-m realm --realm 0", "", "INPUT FORWARD", 4},
		{"-m icmp --icmp-type echo-request", "icmp", "", 4}, {"-m ttl --ttl-gt 1", "", "", 4}, {"-m tos " + inv + "--tos 0x00", "", "", 0},
		{"-m icmp6 --icmpv6-type echo-request", "icmpv6", "", 6}, {"-m hl --hl-gt 1", "", "", 6},
		{"-m ipv6header --header prot --soft", "", "", 6}, {"-m frag --fragid 1", "", "", 6},
		{"-m mac --mac-source " + macText(mac(0, true)), "", "PREROUTING INPUT FORWARD", 0},
	}
	return list
}

// focusTarget is a target that leaves a trace: a mark, a changed header, a verdict.
type focusTarget struct {
	table, hooks, proto, text string
	family                    int
}

func focusTargets(p *pool) []focusTarget {
	return []focusTarget{
		{"filter", "INPUT FORWARD OUTPUT", "", "-j DROP", 0}, {"filter", "INPUT FORWARD OUTPUT", "", "-j REJECT", 0},
		{"filter", "INPUT FORWARD OUTPUT", "tcp", "-j REJECT --reject-with tcp-reset", 0},
		{"mangle", "PREROUTING INPUT FORWARD OUTPUT POSTROUTING", "", "-j DROP", 0},
		{"mangle", "PREROUTING", "", "-j MARK --set-xmark 0x1/0x1", 0}, {"mangle", "PREROUTING OUTPUT", "", "-j CONNMARK --set-mark 0x1", 0},
		{"mangle", "PREROUTING FORWARD", "", "-j DSCP --set-dscp 0x08", 0}, {"mangle", "PREROUTING FORWARD", "", "-j TOS --set-tos 0x10", 0},
		{"mangle", "POSTROUTING FORWARD OUTPUT", "", "-j CLASSIFY --set-class 1:2", 0},
		{"mangle", "FORWARD", "tcp", "-m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1300", 0}, {"mangle", "POSTROUTING", "udp", "-j CHECKSUM --checksum-fill", 0},
		{"mangle", "PREROUTING", "", "-j TTL --ttl-inc 1", 4}, {"mangle", "PREROUTING", "", "-j HL --hl-inc 1", 6},
		{"mangle", "PREROUTING", "tcp", "-j ECN --ecn-tcp-remove", 4},
		{"mangle", "PREROUTING", "tcp", "-j TPROXY --on-port 15001 --tproxy-mark 0x1/0x1", 0},
		{"mangle", "PREROUTING", "", "-j HMARK --hmark-tuple src,dst --hmark-mod 2 --hmark-offset 1 --hmark-rnd 0xfeed", 0},
		{"mangle", "FORWARD", "", "-j TEE --gateway " + p.remote[1].String(), 0}, {"mangle", "FORWARD", "tcp", "-j TCPOPTSTRIP --strip-options mss", 0},
		{"mangle", "FORWARD", "", "-j IDLETIMER --timeout 60 --label it", 0}, {"mangle", "FORWARD", "", "-j SET --add-set fs src", 0},
		{"filter", "FORWARD", "", "-j LOG", 0}, {"filter", "FORWARD", "", "-j NFLOG --nflog-group 5", 0}, {"filter", "FORWARD", "", "-j AUDIT --type drop", 0},
		{"filter", "FORWARD", "", "-j NFQUEUE --queue-num 9", 0}, {"filter", "FORWARD", "", "-j NFQUEUE --queue-num 9 --queue-bypass", 0},
		{"raw", "PREROUTING OUTPUT", "", "-j NOTRACK", 0}, {"raw", "PREROUTING OUTPUT", "", "-j CT --notrack", 0}, {"raw", "PREROUTING", "", "-j TRACE", 0},
		{"raw", "PREROUTING", "", "-j CT --zone 7", 0},
		{"nat", "PREROUTING OUTPUT", "", "-j DNAT --to-destination " + p.pods[1].String(), 0}, {"nat", "PREROUTING OUTPUT", "", "-j REDIRECT", 0},
		{"nat", "POSTROUTING", "", "-j SNAT --to-source " + p.nodes[1].String(), 0}, {"nat", "POSTROUTING", "", "-j MASQUERADE", 0},
		{"nat", "PREROUTING", "", "-j NETMAP --to " + p.podCIDR.String(), 0},
		{"mangle", "POSTROUTING", "", "-j SNPT --src-pfx fd00:10:244:1::/64 --dst-pfx 2001:db8:77::/64", 6},
		{"mangle", "PREROUTING", "", "-j DNPT --src-pfx 2001:db8:1::/64 --dst-pfx fd00:10:244:1::/64", 6},
	}
}

// focusCase is the n-th combination of a match and a target.
func focusCase(seed, n uint64) *Case {
	d := newDice(seed, n)
	p := pick(d, &pool4, &pool6)
	backend := pick(d, "legacy", "nft")
	// Half of the cases go through the matches with a dropping rule, the others through the targets with a plain match.
	choose := func() (focusMatch, focusTarget) {
		matches, targets := focusMatches(d, p), focusTargets(p)
		if n%2 == 1 {
			t := targets[int(n/2)%len(targets)]
			switch {
			case strings.Contains(t.text, "DNPT"): // other addresses would get wrong checksums
				return focusMatch{text: "-d 2001:db8:1::/64"}, t
			case strings.Contains(t.text, "SNPT"):
				return focusMatch{text: "-s fd00:10:244:1::/64"}, t
			}
			return focusMatch{text: "! -d " + hostPrefix(p.outside[1])}, t
		}
		return matches[int(n/2)%len(matches)], targets[d.IntN(4)]
	}
	m, t := choose()
	if f := max(m.family, t.family); f != 0 && (f == 4) != p.v4 {
		p = map[int]*pool{4: &pool4, 6: &pool6}[f]
		m, t = choose()
	}
	tool, drop := "iptables", focusTarget{"mangle", "PREROUTING INPUT FORWARD OUTPUT POSTROUTING", "", "-j DROP", 0}
	if !p.v4 {
		tool = "ip6tables"
	}
	c := &Case{Name: fmt.Sprintf("focus seed %d number %d: %s %s %s", seed, n, tool+"-"+backend, m.text, t.text), AnswersMayDie: true}
	var rules []string
	proto := m.proto
	if t.proto != "" {
		proto = t.proto
		if m.proto != "" && m.proto != t.proto {
			t, proto = drop, m.proto
		}
	}
	if proto != "" {
		proto = "-p " + proto + " "
	}
	for _, h := range strings.Fields(t.hooks) {
		if m.hooks == "" || strings.Contains(" "+m.hooks+" ", " "+h+" ") {
			rules = append(rules, "-A "+h+" "+proto+m.text+" "+t.text)
		}
	}
	if len(rules) == 0 {
		t.table = "mangle"
		for _, h := range strings.Fields(m.hooks) {
			rules = append(rules, "-A "+h+" "+proto+m.text+" -j DROP")
		}
	}
	family := "inet"
	if !p.v4 {
		family = "inet6"
	}
	c.Steps = []Step{
		{"ipset", fmt.Sprintf("create fs hash:ip family %s\nadd fs %s\nadd fs %s\ncreate fp hash:ip,port family %s\nadd fp %s,tcp:80\nadd fp %s,udp:53\n",
			family, p.clients["ext"][0], p.pods[0], family, p.pods[0], p.pods[1])},
		{"ip", "link set dev p1 group 5\n"},
		{tool + "-" + backend, focusBackground(p, t.table, rules)},
	}
	c.Shots = shotsOf(d, p, strings.TrimSuffix(strings.TrimPrefix(proto, "-p "), " "))
	return c
}

// shotsOf sends packets of every protocol, and more of one.
func shotsOf(d dice, p *pool, proto string) []Shot {
	shots := generalShots(d, p, 9)
	if proto == "" {
		return shots
	}
	var ports sourcePorts
	ports.next = 40000
	for range 4 {
		dst := pick(d, p.pods...)
		from, src := p.origin(d, dst)
		s := Shot{From: from, Proto: protoNumber(proto), Src: netip.AddrPortFrom(src, ports.take()), Dst: netip.AddrPortFrom(dst, 80)}
		if s.Proto == protoICMP || s.Proto == protoICMPv6 {
			s.Src, s.Dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
		}
		shots = append(shots, s)
	}
	return shots
}

// focusBackground writes the rules between those that make and show marks, connection marks and a translation.
func focusBackground(p *pool, table string, rules []string) string {
	tables := []struct {
		name          string
		before, after []string
	}{
		{"raw", nil, nil},
		{"mangle", []string{"-A PREROUTING -i p1 -j MARK --set-mark 0x1", "-A PREROUTING -i p2 -j CONNMARK --set-mark 0x1"}, []string{"-A POSTROUTING -m mark --mark 0x2 -j DROP"}},
		{"nat", nil, []string{
			"-A PREROUTING -d " + hostPrefix(p.nodes[0]) + " -j DNAT --to-destination " + p.pods[0].String(),
			"-A POSTROUTING -s " + hostPrefix(p.pods[2]) + " -j MASQUERADE"}},
		{"filter", nil, []string{"-A FORWARD -m mark --mark 0x1 -i ext -j DROP", "-A FORWARD -m connmark --mark 0x1 -i eth1 -j DROP",
			"-A FORWARD -m conntrack --ctstate UNTRACKED -j REJECT", "-A FORWARD -m dscp --dscp 0x08 -j DROP"}},
	}
	var b strings.Builder
	for _, t := range tables {
		all := append([]string{}, t.before...)
		if t.name == table {
			all = append(all, rules...)
		}
		all = append(all, t.after...)
		if len(all) > 0 {
			fmt.Fprintf(&b, "*%s\n%s\nCOMMIT\n", t.name, strings.Join(all, "\n"))
		}
	}
	return b.String()
}
