//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"strings"
)

// target is a random target that is allowed in the chain; needs is the protocol it wants.
func (g *xtGenerator) target(c chainPlace, users []string, proto string) (text, needs string) {
	d := g.d
	if len(users) > 0 && d.one(3) {
		if d.one(3) {
			return "-g " + pick(d, users...), ""
		}
		return "-j " + pick(d, users...), ""
	}
	if d.one(6) {
		return "-j " + pick(d, "ACCEPT", "RETURN", "RETURN"), ""
	}
	switch c.table {
	case "raw":
		return g.rawTarget()
	case "mangle":
		return g.mangleTarget(c)
	case "nat":
		if c.only("PREROUTING", "OUTPUT") {
			return g.dnatTarget(proto)
		}
		if c.only("POSTROUTING") || c.only("INPUT") {
			return g.snatTarget(c, proto)
		}
		return "-j RETURN", ""
	}
	switch d.IntN(12) {
	case 0, 1, 2:
		return "-j DROP", ""
	case 3, 4:
		if c.table == "filter" {
			return g.reject(proto)
		}
		return "-j DROP", ""
	case 5:
		return g.inert()
	case 6:
		return "-j MARK --set-mark " + pick(d, "1", "2"), ""
	case 7:
		if len(g.sets) > 0 {
			s := pick(d, g.sets...)
			if s.dims == 1 && s.kind != "bitmap:port" {
				return "-j SET --add-set " + s.name + " src", ""
			}
		}
	}
	return "-j ACCEPT", ""
}

// inert are targets that let a packet go on as it is.
func (g *xtGenerator) inert() (text, needs string) {
	return pick(g.d,
		"-j LOG --log-prefix \"oracle \"",
		"-j NFLOG --nflog-group 5",
		"-j AUDIT --type accept",
	), ""
}

func (g *xtGenerator) reject(proto string) (text, needs string) {
	d := g.d
	if proto == "tcp" && d.one(2) {
		return "-j REJECT --reject-with tcp-reset", "tcp"
	}
	if g.p.v4 {
		return "-j REJECT --reject-with " + pick(d, "icmp-port-unreachable", "icmp-net-unreachable", "icmp-host-unreachable",
			"icmp-proto-unreachable", "icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited"), ""
	}
	return "-j REJECT --reject-with " + pick(d, "icmp6-no-route", "icmp6-adm-prohibited", "icmp6-addr-unreachable", "icmp6-port-unreachable"), ""
}

func (g *xtGenerator) rawTarget() (text, needs string) {
	return pick(g.d, "-j CT --notrack", "-j NOTRACK", "-j CT --zone 7", "-j DROP", "-j ACCEPT", "-j CT --zone mark", "-j TRACE", "-j CT --zone-orig 3"), ""
}

func (g *xtGenerator) mangleTarget(c chainPlace) (text, needs string) {
	d := g.d
	marks := []string{
		"-j MARK --set-mark 1", "-j MARK --set-xmark 0x4000/0x4000", "-j MARK --or-mark 0x10", "-j MARK --and-mark 0xff", "-j MARK --xor-mark 1",
		"-j MARK --set-mark 0x2/0x3", "-j CONNMARK --set-mark 0x1", "-j CONNMARK --save-mark", "-j CONNMARK --restore-mark",
		"-j CONNMARK --set-xmark 0x10/0x10", "-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff",
		"-j DSCP --set-dscp 0x08", "-j CLASSIFY --set-class 1:2", "-j DROP",
		"-j TOS --set-tos 0x10/0x3f",
	}
	if g.p.v4 {
		marks = append(marks, "-j TTL --ttl-set 63", "-j TTL --ttl-inc 1", "-j ECN --ecn-tcp-remove")
	} else {
		marks = append(marks, "-j HL --hl-set 63")
	}
	text = pick(d, marks...)
	switch text {
	case "-j ECN --ecn-tcp-remove":
		return text, "tcp"
	}
	if c.only("POSTROUTING", "FORWARD") && d.one(8) {
		return "-m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1300", "tcp"
	}
	return text, ""
}

func (g *xtGenerator) dnatTarget(proto string) (text, needs string) {
	d, p := g.d, g.p
	to := pick(d, append(append([]netip.Addr{}, p.pods...), append(p.remote, p.nodes[0], p.outside[1])...)...)
	ports := proto == "tcp" || proto == "udp" || proto == "sctp"
	switch d.IntN(8) {
	case 0:
		if ports && proto != "sctp" {
			return fmt.Sprintf("-j REDIRECT --to-ports %s", pick(d, "8080", "15001")), proto
		}
		return "-j REDIRECT", proto
	case 1:
		return fmt.Sprintf("-j DNAT --to-destination %s-%s", p.pods[0], p.pods[2]), ""
	case 2:
		if p.v4 {
			return "-j NETMAP --to 10.244.1.0/28", ""
		}
		return "-j NETMAP --to fd00:10:244:1::/124", ""
	case 3:
		return fmt.Sprintf("-j DNAT --to-destination %s%s", to, pick(d, "", " --random", " --persistent")), ""
	case 4:
		return fmt.Sprintf("-j DNAT --to-destination %s-%s --persistent", p.pods[0], p.pods[1]), ""
	}
	if ports {
		return "-j DNAT --to-destination " + end(to, pick[uint16](d, 80, 8080)), proto
	}
	return fmt.Sprintf("-j DNAT --to-destination %s", to), ""
}

func (g *xtGenerator) snatTarget(c chainPlace, proto string) (text, needs string) {
	d, p := g.d, g.p
	masquerade := c.only("POSTROUTING")
	ports := proto == "tcp" || proto == "udp"
	switch n := d.IntN(7); {
	case n < 3 && masquerade:
		if ports && d.one(2) {
			return "-j MASQUERADE --to-ports " + pick(d, "40000-41000", "50000"), proto
		}
		return "-j MASQUERADE" + pick(d, "", "", " --random", " --random-fully"), ""
	case n == 3:
		return fmt.Sprintf("-j SNAT --to-source %s-%s", p.outside[0], p.outside[0].Next().Next()), ""
	case n == 4 && ports:
		return "-j SNAT --to-source " + strings.TrimSuffix(end(pick(d, p.nodes[:2]...), 0), "0") + "45000-45100", proto
	case n == 5 && p.v4:
		return "-j NETMAP --to 198.18.7.0/28", ""
	}
	return fmt.Sprintf("-j SNAT --to-source %s%s", pick(d, p.nodes[0], p.nodes[1], p.outside[2]), pick(d, "", "", " --random", " --persistent")), ""
}
