//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"slices"
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
	// send are the packets that it is for, besides those that every case has; before are steps that it needs.
	send   func(d dice, p *pool) []Shot
	before []Step
	// bare leaves out the rules around the one that counts: those turn connection tracking on, and with it defragmentation.
	bare bool
}

func focusMatches(d dice, p *pool) []focusMatch {
	src, dst := pick(d, p.clients["ext"]...), pick(d, p.pods...)
	inv := pick(d, "", "", "! ")
	list := []focusMatch{
		{text: inv + "-s " + hostPrefix(src)}, {text: inv + "-d " + hostPrefix(dst)},
		{text: inv + "-i " + pick(d, "ext", "p+", "p1"), hooks: "PREROUTING INPUT FORWARD"}, {text: inv + "-o " + pick(d, "ext", "p+", "p1"), hooks: "FORWARD OUTPUT POSTROUTING"},
		{text: "-m addrtype " + inv + "--dst-type " + pick(d, "LOCAL", "UNICAST")},
		{text: "-m addrtype " + inv + "--src-type LOCAL"},
		{text: "-m addrtype --dst-type LOCAL --limit-iface-in", hooks: "PREROUTING INPUT"},
		{text: "-m comment --comment x"},
		{text: "-m connbytes --connbytes 0:100000 --connbytes-dir both --connbytes-mode bytes"},
		{text: "-m connlabel ! --label 1"},
		{text: "-m connmark " + inv + "--mark 0x1", hooks: "FORWARD POSTROUTING INPUT"},
		{text: "-m conntrack " + inv + "--ctstate " + pick(d, "NEW", "DNAT", "ESTABLISHED")},
		{text: "-m conntrack " + inv + "--ctorigdst " + p.nodes[0].String()},
		{text: "-m conntrack --ctproto " + pick(d, "tcp", "udp")},
		{text: "-m devgroup " + inv + "--src-group 5", hooks: "PREROUTING INPUT FORWARD"},
		{text: "-m dscp " + inv + "--dscp 0x00"},
		{text: "-m ecn --ecn-ip-ect 0"},
		{text: "-m helper ! --helper ftp"},
		{text: "-m iprange " + inv + fmt.Sprintf("--dst-range %s-%s", p.pods[0], p.pods[1])},
		{text: "-m length --length " + pick(d, "0:1500", "0:50")},
		{text: "-m mark " + inv + "--mark " + pick(d, "0x1", "0x1/0x1")},
		{text: "-m multiport " + inv + "--dports 80,443", proto: "tcp"}, {text: "-m multiport --ports 80,20001:30000", proto: "udp"},
		{text: "-m owner --uid-owner 0", hooks: "OUTPUT"}, {text: "-m owner --socket-exists", hooks: "OUTPUT POSTROUTING"},
		{text: "-m pkttype " + inv + "--pkt-type unicast", hooks: "PREROUTING INPUT FORWARD"},
		{text: "-m policy --pol none --dir in", hooks: "PREROUTING INPUT FORWARD"},
		{text: "-m recent --name f --set"}, {text: "-m recent --name f --update --seconds 60 --hitcount 2"},
		{text: "-m rpfilter " + pick(d, "", "--loose", "--invert"), hooks: "PREROUTING"},
		{text: "-m sctp --dport 80", proto: "sctp"}, {text: "-m sctp --chunk-types any INIT", proto: "sctp"},
		{text: "-m set " + inv + "--match-set fs " + pick(d, "src", "dst")},
		{text: "-m set --match-set fp dst,dst"},
		{text: "-m socket", hooks: "PREROUTING INPUT"}, {text: "-m socket --transparent", hooks: "PREROUTING"},
		{text: "-m socket" + pick(d, "", " --nowildcard"), hooks: "PREROUTING INPUT", before: listeners, send: toListeners},
		{text: "-m state --state NEW"},
		{text: "-m statistic --mode random " + inv + "--probability 0.5"},
		{text: "-m tcp " + inv + "--dport 80", proto: "tcp"}, {text: "-m tcp --syn", proto: "tcp"},
		{text: "-m udp " + inv + "--sport 20001:20010", proto: "udp"},
		{text: "-m u32 --u32 \"0>>28=4,6\""},
		{text: fmt.Sprintf("-m cluster --cluster-total-nodes 2 %s--cluster-local-node 1 --cluster-hash-seed 0x%x", inv, 1+d.IntN(1<<30)), hooks: "PREROUTING INPUT FORWARD"},
		{text: fmt.Sprintf("-m cluster --cluster-total-nodes 3 --cluster-local-nodemask 5 --cluster-hash-seed 0x%x", 1+d.IntN(1<<30)), hooks: "FORWARD"},
		{text: "-m bpf --bytecode \"4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0\"", family: 4},
		{text: "-m tcpmss ! --mss 1:65535", proto: "tcp"},
		{text: "-m quota --quota 1000000"}, {text: "-m limit --limit 1000/s"}, {text: "-m cpu --cpu 0"},
		{text: "-m hashlimit --hashlimit-" + pick(d, "above", "upto", "upto") + " 1000/s --hashlimit-mode srcip --hashlimit-name fh"},
		{text: "-m connlimit --connlimit-above 0"}, {text: "-m time --timestart 00:00 --timestop 23:59:59"},
		{text: "-m string --string SVCT --algo bm"}, {text: "-m physdev ! --physdev-in x", hooks: "PREROUTING INPUT FORWARD"},
		{text: "-m realm --realm 0", hooks: "INPUT FORWARD", family: 4},
		{text: "-m icmp --icmp-type echo-request", proto: "icmp", family: 4}, {text: "-m ttl --ttl-gt 1", family: 4}, {text: "-m tos " + inv + "--tos 0x00"},
		{text: "-m icmp6 --icmpv6-type echo-request", proto: "icmpv6", family: 6}, {text: "-m hl --hl-gt 1", family: 6},
		{text: "-m ipv6header --header prot --soft", family: 6}, {text: "-m frag --fragid 1", family: 6},
		{text: "-m mac --mac-source " + macText(mac(0, true)), hooks: "PREROUTING INPUT FORWARD"},
	}
	return append(list, headerMatches(p)...)
}

// focusTarget is a target that leaves a trace: a mark, a changed header, a verdict.
type focusTarget struct {
	table, hooks, proto, text string
	family                    int
	// after are rules that show what it did, in the same table; show is a step that does.
	after []string
	show  []Step
}

func focusTargets(p *pool) []focusTarget {
	show := []Step{{"nft", "add table inet show\nadd chain inet show last { type filter hook postrouting priority 200; }\nadd rule inet show last meta priority 1:2 drop\n"}}
	return []focusTarget{
		{table: "filter", hooks: "INPUT FORWARD OUTPUT", text: "-j DROP"}, {table: "filter", hooks: "INPUT FORWARD OUTPUT", text: "-j REJECT"},
		{table: "filter", hooks: "INPUT FORWARD OUTPUT", proto: "tcp", text: "-j REJECT --reject-with tcp-reset"},
		{table: "mangle", hooks: "PREROUTING INPUT FORWARD OUTPUT POSTROUTING", text: "-j DROP"},
		{table: "mangle", hooks: "PREROUTING", text: "-j MARK --set-xmark 0x1/0x1"}, {table: "mangle", hooks: "PREROUTING OUTPUT", text: "-j CONNMARK --set-mark 0x2", after: []string{"-A FORWARD -m connmark --mark 0x2 -j DROP"}},
		{table: "mangle", hooks: "PREROUTING FORWARD", text: "-j DSCP --set-dscp 0x08"}, {table: "mangle", hooks: "PREROUTING FORWARD", text: "-j TOS --set-tos 0x10", after: []string{"-A FORWARD -m tos --tos 0x10 -j DROP"}},
		{table: "mangle", hooks: "POSTROUTING FORWARD OUTPUT", text: "-j CLASSIFY --set-class 1:2", show: show},
		{table: "mangle", hooks: "FORWARD", proto: "tcp", text: "-m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1300", after: []string{"-A FORWARD -p tcp -m tcpmss --mss 1300 -j DROP"}}, {table: "mangle", hooks: "POSTROUTING", proto: "udp", text: "-j CHECKSUM --checksum-fill"},
		{table: "mangle", hooks: "PREROUTING", text: "-j TTL --ttl-inc 1", family: 4, after: []string{"-A FORWARD -m ttl --ttl-eq 64 -j DROP"}}, {table: "mangle", hooks: "PREROUTING", text: "-j HL --hl-inc 1", family: 6, after: []string{"-A FORWARD -m hl --hl-eq 64 -j DROP"}},
		{table: "mangle", hooks: "PREROUTING", proto: "tcp", text: "-j ECN --ecn-ip-ect 2", family: 4, after: []string{"-A FORWARD -m ecn --ecn-ip-ect 2 -j DROP"}},
		{table: "mangle", hooks: "PREROUTING", proto: "tcp", text: "-j TPROXY --on-port 15001 --tproxy-mark 0x1/0x1"},
		{table: "mangle", hooks: "PREROUTING", text: "-j HMARK --hmark-tuple src,dst --hmark-mod 2 --hmark-offset 1 --hmark-rnd 0xfeed"},
		{table: "mangle", hooks: "FORWARD", text: "-j TEE --gateway " + p.remote[1].String()}, {table: "mangle", hooks: "FORWARD", proto: "tcp", text: "-j TCPOPTSTRIP --strip-options mss"},
		{table: "mangle", hooks: "FORWARD", text: "-j IDLETIMER --timeout 60 --label it"}, {table: "mangle", hooks: "FORWARD", text: "-j SET --add-set fs src", after: []string{"-A FORWARD -m set --match-set fs src -j DROP"}},
		{table: "filter", hooks: "FORWARD", text: "-j LOG"}, {table: "filter", hooks: "FORWARD", text: "-j NFLOG --nflog-group 5"}, {table: "filter", hooks: "FORWARD", text: "-j AUDIT --type drop"},
		{table: "filter", hooks: "FORWARD", text: "-j NFQUEUE --queue-num 9"}, {table: "filter", hooks: "FORWARD", text: "-j NFQUEUE --queue-num 9 --queue-bypass", after: []string{"-A FORWARD -j DROP"}},
		{table: "raw", hooks: "PREROUTING OUTPUT", text: "-j NOTRACK"}, {table: "raw", hooks: "PREROUTING OUTPUT", text: "-j CT --notrack"}, {table: "raw", hooks: "PREROUTING", text: "-j TRACE"},
		{table: "raw", hooks: "PREROUTING", text: "-j CT --zone 7"},
		{table: "mangle", hooks: "FORWARD", text: "-j CONNSECMARK --save"}, {table: "filter", hooks: "FORWARD", text: "-j RATEEST --rateest-name re --rateest-interval 1s --rateest-ewma 2s"},
		{table: "nat", hooks: "PREROUTING OUTPUT", text: "-j DNAT --to-destination " + p.pods[1].String()}, {table: "nat", hooks: "PREROUTING OUTPUT", text: "-j REDIRECT"},
		{table: "nat", hooks: "POSTROUTING", text: "-j SNAT --to-source " + p.nodes[1].String()}, {table: "nat", hooks: "POSTROUTING", text: "-j MASQUERADE"},
		{table: "nat", hooks: "PREROUTING", text: "-j NETMAP --to " + p.podCIDR.String()},
		{table: "mangle", hooks: "POSTROUTING", text: "-j SNPT --src-pfx fd00:10:244:1::/64 --dst-pfx 2001:db8:77::/64", family: 6},
		{table: "mangle", hooks: "PREROUTING", text: "-j DNPT --src-pfx 2001:db8:1::/64 --dst-pfx fd00:10:244:1::/64", family: 6},
	}
}

// focusCase is the n-th combination of a match and a target: half of the cases go through the matches with a dropping rule,
// the others through the targets with a plain match.
func focusCase(seed, n uint64) *Case {
	d := newDice(seed, n)
	p := pick(d, &pool4, &pool6)
	matches := slices.DeleteFunc(focusMatches(d, p), func(m focusMatch) bool { return m.family != 0 && (m.family == 4) != p.v4 })
	targets := slices.DeleteFunc(focusTargets(p), func(t focusTarget) bool { return t.family != 0 && (t.family == 4) != p.v4 })
	m, t := matches[int(n/2)%len(matches)], targets[d.IntN(4)]
	if n%2 == 1 {
		t = targets[int(n/2)%len(targets)]
		m = plainMatch(p, t)
	}
	return focusOn(d, p, fmt.Sprintf("focus seed %d number %d", seed, n), m, t)
}

// plainMatch is a match for a rule in which the target counts.
func plainMatch(p *pool, t focusTarget) focusMatch {
	switch {
	case strings.Contains(t.text, "TCPMSS"), strings.Contains(t.text, "TCPOPTSTRIP"):
		return focusMatch{text: "! -d " + hostPrefix(p.outside[1]), send: optionShots}
	case strings.Contains(t.text, "DNPT"): // other addresses would get wrong checksums
		return focusMatch{text: "-d 2001:db8:1::/64"}
	case strings.Contains(t.text, "SNPT"):
		return focusMatch{text: "-s fd00:10:244:1::/64"}
	}
	return focusMatch{text: "! -d " + hostPrefix(p.outside[1])}
}

// focusOn makes a case of a match and a target.
func focusOn(d dice, p *pool, name string, m focusMatch, t focusTarget) *Case {
	backend := pick(d, "legacy", "nft")
	tool, drop := "iptables", focusTarget{table: "mangle", hooks: "PREROUTING INPUT FORWARD OUTPUT POSTROUTING", text: "-j DROP"}
	if !p.v4 {
		tool = "ip6tables"
	}
	c := &Case{Name: fmt.Sprintf("%s: %s %s %s", name, tool+"-"+backend, m.text, t.text), AnswersMayDie: true}
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
	var hooks []string
	for _, h := range strings.Fields(t.hooks) {
		if m.hooks == "" || strings.Contains(" "+m.hooks+" ", " "+h+" ") {
			hooks = append(hooks, h)
		}
	}
	if len(hooks) == 0 {
		t = drop
		hooks = strings.Fields(m.hooks)
	}
	// At one hook: elsewhere the same rule would decide again, and no construct in it alone.
	rules = append(rules, "-A "+pick(d, hooks...)+" "+proto+m.text+" "+t.text)
	for _, r := range t.after {
		if t.table != "mangle" || !strings.Contains(t.hooks, "POSTROUTING") {
			rules = append(rules, r)
		}
	}
	family := "inet"
	if !p.v4 {
		family = "inet6"
	}
	c.Steps = append([]Step{
		{"ipset", fmt.Sprintf("create fs hash:ip family %s\nadd fs %s\nadd fs %s\ncreate fp hash:ip,port family %s\nadd fp %s,tcp:80\nadd fp %s,udp:53\n",
			family, p.clients["ext"][0], p.pods[0], family, p.pods[0], p.pods[1])},
		{"ip", "link set dev p1 group 5\n"},
	}, m.before...)
	text := focusBackground(p, t.table, rules)
	if m.bare {
		text = fmt.Sprintf("*%s\n%s\nCOMMIT\n", t.table, strings.Join(rules, "\n"))
	}
	c.Steps = append(append(c.Steps, Step{tool + "-" + backend, text}), t.show...)
	c.Shots = shotsOf(d, p, strings.TrimSuffix(strings.TrimPrefix(proto, "-p "), " "))
	if m.send != nil {
		c.Shots = append(c.Shots, m.send(d, p)...)
	}
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
	for range 6 {
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
