//go:build linux

package namespaces

import (
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// routed is a node that routes between two pods, IPv4 and IPv6, with two Service addresses: .1 leads to the second pod, .2 to the
// node itself.
func routed(t *testing.T) (n, pod1, pod2 *netns.Place) {
	n, pod1, pod2 = netns.New(t, "node"), netns.New(t, "pod1"), netns.New(t, "pod2")
	for _, p := range []*netns.Place{n, pod1, pod2} {
		p.Sh(t, "sysctl -qw net.ipv6.conf.default.accept_dad=0") // else nothing is resolved for a second
	}
	n.Sh(t, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	for i, p := range []*netns.Place{pod1, pod2} {
		x := string(rune('1' + i))
		netns.Plug(t, n, "v"+x, p, "eth0")
		n.Sh(t, "ip addr add 10.244."+x+".1/24 dev v"+x, "ip addr add fd00:"+x+"::1/64 dev v"+x+" nodad")
		p.Sh(t, "ip addr add 10.244."+x+".1"+x+"/24 dev eth0", "ip addr add fd00:"+x+"::1"+x+"/64 dev eth0 nodad", "ip route add default via 10.244."+x+".1",
			"ip route add default via fd00:"+x+"::1")
	}
	n.Sh(t, "iptables-legacy -t nat -A PREROUTING -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.244.2.12:80",
		"iptables-legacy -t nat -A PREROUTING -d 10.96.0.2/32 -p tcp --dport 80 -j DNAT --to-destination 10.244.1.1:80",
		"iptables-legacy -t nat -A OUTPUT -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.244.2.12:80",
		"ip addr add 10.244.2.77/24 dev v2", "ip route add 10.96.0.0/16 via 10.244.2.12")
	for _, p := range []*netns.Place{n, pod2} {
		p.Listen(t, ":80")
	}
	return n, pod1, pod2
}

func TestIPsecPolicies(t *testing.T) {
	const all, all6 = "src 0.0.0.0/0 dst 0.0.0.0/0 ", "src ::/0 dst ::/0 "
	const fromPod, fromNode, toPod, toPod6, toNode, toNode6 = "10.244.1.11", "10.244.2.1", "10.244.2.12:80", "[fd00:2::12]:80", "10.244.1.1:80", "[fd00:1::1]:80"
	const toService, toNodeService = "10.96.0.1:80", "10.96.0.2:80"
	const snat = "iptables-legacy -t nat -A POSTROUTING -d 10.244.2.12/32 -j SNAT --to-source 10.244.2.77"
	for name, c := range map[string]struct {
		commands string // a policy of the node, or a command when it does not begin with src
		from, to string
		want     string
	}{
		"none": {"true", fromPod, toPod, "connected"}, "none, IPv6": {"true", "fd00:1::11", toPod6, "connected"},
		"out: forwarded": {all + "dir out action block", fromPod, toPod, "silent"}, "out: forwarded, IPv6": {all6 + "dir out action block", "fd00:1::11", toPod6, "silent"},
		"out: a process": {all + "dir out action block", fromNode, toPod, "refused"}, "out: a process, IPv6": {all6 + "dir out action block", "fd00:2::1", toPod6, "refused"},
		"out: its own address": {all + "dir out action block", fromNode, toNode, "connected"}, "out: its own address, IPv6": {all6 + "dir out action block", "fd00:2::1", toNode6, "refused"},
		"in: its own address": {all + "dir in action block", fromNode, toNode, "connected"}, "in: its own address, IPv6": {all6 + "dir in action block", "fd00:2::1", toNode6, "silent"},
		"in: for the node": {all + "dir in action block", fromPod, toNode, "silent"}, "in: for the node, IPv6": {all6 + "dir in action block", "fd00:1::11", toNode6, "silent"},
		"in: forwarded": {all + "dir in action block", fromPod, toPod, "connected"}, "fwd: for the node": {all + "dir fwd action block", fromPod, toNode, "connected"},
		"fwd": {all + "dir fwd action block", fromPod, toPod, "silent"}, "fwd, IPv6": {all6 + "dir fwd action block", "fd00:1::11", toPod6, "silent"},
		"out: the Service's address is gone":      {"src 0.0.0.0/0 dst 10.96.0.1/32 dir out action block", fromPod, toService, "connected"},
		"out: the endpoint":                       {"src 0.0.0.0/0 dst 10.244.2.12/32 dir out action block", fromPod, toService, "silent"},
		"out: the Service, asked by a process":    {"src 0.0.0.0/0 dst 10.96.0.1/32 dir out action block", fromNode, toService, "refused"},
		"out: the endpoint, asked by a process":   {"src 0.0.0.0/0 dst 10.244.2.12/32 dir out action block", fromNode, toService, "silent"},
		"fwd: the Service's address, as it was":   {"src 0.0.0.0/0 dst 10.96.0.1/32 dir fwd action block", fromPod, toService, "silent"},
		"fwd: not the endpoint's":                 {"src 0.0.0.0/0 dst 10.244.2.12/32 dir fwd action block", fromPod, toService, "connected"},
		"in: the Service's address, as it was":    {"src 0.0.0.0/0 dst 10.96.0.2/32 dir in action block", fromPod, toNodeService, "silent"},
		"in: not the node's":                      {"src 0.0.0.0/0 dst 10.244.1.1/32 dir in action block", fromPod, toNodeService, "connected"},
		"out: a source that was translated":       {"ip xfrm policy add src 10.244.2.77/32 dst 0.0.0.0/0 dir out action block; " + snat, fromPod, toPod, "silent"},
		"out: the source before it is translated": {"ip xfrm policy add src 10.244.1.11/32 dst 0.0.0.0/0 dir out action block; " + snat, fromPod, toPod, "silent"},
		"out: this port":                          {all + "proto tcp dport 80 dir out action block", fromPod, toPod, "silent"},
		"out: another port":                       {all + "proto tcp dport 81 dir out action block", fromPod, toPod, "connected"},
		"out: another protocol":                   {all + "proto udp dir out action block", fromPod, toPod, "connected"},
		"out: another mark":                       {all + "dir out mark 1 mask 1 action block", fromPod, toPod, "connected"},
		"out: this mark":                          {all + "dir out mark 0 mask 1 action block", fromPod, toPod, "silent"},
		"of an xfrm interface":                    {all + "dir out if_id 5 action block", fromPod, toPod, "connected"},
		"the first allows":                        {"ip xfrm policy add src 0.0.0.0/0 dst 10.244.2.0/23 dir out priority 9 action block; ip xfrm policy add src 0.0.0.0/0 dst 10.244.2.0/24 dir out priority 5 action allow", fromPod, toPod, "connected"},
		"the first blocks":                        {"ip xfrm policy add " + all + "dir out priority 5 action block; ip xfrm policy add src 0.0.0.0/0 dst 10.244.2.0/24 dir out priority 9 action allow", fromPod, toPod, "silent"},
		"blocked by default, out":                 {"ip xfrm policy setdefault out block", fromNode, toPod, "refused"},
		"blocked by default, out, own address":    {"ip xfrm policy setdefault out block", "fd00:2::1", toNode6, "connected"},
		"blocked by default, fwd":                 {"ip xfrm policy setdefault fwd block", fromPod, toPod, "silent"},
		"blocked by default, in":                  {"ip xfrm policy setdefault in block", fromPod, toNode, "silent"},
		"blocked by default, but allowed":         {"ip xfrm policy setdefault in block; ip xfrm policy add " + all + "dir in action allow", fromPod, toNode, "connected"},
		"the interface is exempt":                 {"ip xfrm policy add src 10.244.1.0/24 dst 0.0.0.0/0 dir fwd action block; sysctl -qw net.ipv4.conf.v1.disable_policy=1", fromPod, toPod, "connected"},
		"the interface is exempt, IPv6":           {"ip xfrm policy add src fd00:1::/64 dst ::/0 dir fwd action block; sysctl -qw net.ipv6.conf.v1.disable_policy=1", "fd00:1::11", toPod6, "connected"},
		"all interfaces are exempt, IPv6":         {"ip xfrm policy add src fd00:1::/64 dst ::/0 dir fwd action block; sysctl -qw net.ipv6.conf.all.disable_policy=1", "fd00:1::11", toPod6, "connected"},
		"all interfaces are exempt":               {"ip xfrm policy add " + all + "dir out action block; sysctl -qw net.ipv4.conf.all.disable_xfrm=1", fromPod, toPod, "connected"},
		"transformed":                             {all + "dir out tmpl src 10.244.2.1 dst 10.244.2.12 proto esp mode tunnel", fromPod, toPod, string(trace.Undetermined)},
	} {
		t.Run(name, func(t *testing.T) {
			n, pod1, _ := routed(t)
			command := c.commands
			if strings.HasPrefix(command, "src ") {
				command = "ip xfrm policy add " + command
			}
			n.Sh(t, command)
			client := pod1
			if c.from != fromPod && c.from != "fd00:1::11" {
				client = n
			}
			tr := n.Walk(t, netns.Start(c.from, c.to))
			if c.want == string(trace.Undetermined) {
				for _, o := range tr.Outcomes {
					if o.Verdict != trace.Undetermined || len(o.Unknown) != 1 || !strings.Contains(o.Unknown[0].What, "IPsec policy") {
						t.Errorf("%+v", o)
					}
				}
				return
			}
			if real := client.Connects(c.to); real != c.want {
				t.Errorf("the real connection: %s, and the case is about %s", real, c.want)
			}
			if got := netns.Fate(t, tr); got != c.want {
				t.Errorf("the walk says %s, the kernel %s:\n%s", got, c.want, netns.Says(tr))
			}
		})
	}
}
