//go:build linux

package tunnels

import (
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

func TestTunnelsThatDoNotFitEndAsTheWalkSays(t *testing.T) {
	neighbour := "ip neigh add 10.244.OTHER.5 lladdr 02:00:00:00:01:0OTHER dev t0"
	ether := " address 02:00:00:00:01:0OWN "
	for name, c := range map[string]struct {
		commands []string
		to       string
		// first and second are done at the nodes after that.
		first, second []string
		word          string
	}{
		"IPIP that a rule drops": {[]string{"ip link add t0 type ipip" + ends, up}, to4, nil, []string{"iptables-legacy -A INPUT -p 4 -j DROP"}, "INPUT"},
		"IPIP from another node than the receiver's remote": {[]string{"ip link add t0 type ipip" + ends, up}, to4, nil,
			[]string{"ip link set t0 type ipip local 10.250.0.12 remote 10.250.0.99", "ip route replace 10.244.1.0/24 via 10.250.0.11 dev eth0"}, "no ipip interface of this node takes it"},
		"IPIP where the receiver has no such interface": {[]string{"ip link add t0 type ipip" + ends, up}, to4, nil, []string{"ip link del t0"}, "no ipip interface of this node takes it"},
		"IPIP to an interface that is down":             {[]string{"ip link add t0 type ipip" + ends, up}, to4, nil, []string{"ip link set t0 down"}, "no ipip interface of this node takes it"},
		"IPv6 into IPIP":                                {[]string{"ip link add t0 type ipip" + ends, up6}, to6, nil, nil, "carries no IPv6"},
		"IPv4 into SIT":                                 {[]string{"ip link add t0 type sit mode ip6ip" + ends, up}, to4, nil, nil, "carries no IPv4"},
		"IPv4 into an ip6tnl for IPv6":                  {[]string{"ip link add t0 type ip6tnl mode ip6ip6" + ends6, up}, to4, nil, nil, "carries no IPv4"},
		"GRE with another key":                          {[]string{"ip link add t0 type gre key OWN" + ends, up}, to4, nil, nil, "no gre interface with key 1 takes it"},
		"GRE with a key where the receiver has none":    {[]string{"ip link add t0 type gre" + ends, up}, to4, []string{"ip link set t0 type gre key 5 local 10.250.0.11 remote 10.250.0.12"}, nil, "no gre interface with key 5 takes it"},
		"GRE with checksums at the sender only":         {[]string{"ip link add t0 type gre" + ends, up}, to4, []string{"ip link set t0 type gre ocsum local 10.250.0.11 remote 10.250.0.12"}, nil, "do not both use checksums"},
		"GRE without the numbers that the receiver wants": {[]string{"ip link add t0 type gre" + ends, up}, to4, nil,
			[]string{"ip link set t0 type gre iseq local 10.250.0.12 remote 10.250.0.11"}, "wants sequence numbers"},
		"GRE to a next hop that is not in the neighbour table": {[]string{"ip link add t0 type gre local 10.250.0.1OWN", nextHop}, to4, nil, nil, "is not known"},
		"Geneve with another identifier": {[]string{"ip link add t0" + ether + "type geneve id OWN remote 10.250.0.1OTHER", neighbour, up}, to4, nil, nil,
			"no geneve interface with id 1 and port 6081 takes it"},
		"Geneve from another node than the receiver's remote": {[]string{"ip link add t0" + ether + "type geneve id 7 remote 10.250.0.1OTHER", neighbour, up}, to4, nil,
			[]string{"ip link set t0 type geneve id 7 remote 10.250.0.99", "ip route replace 10.244.1.0/24 via 10.250.0.11 dev eth0"}, "no geneve interface with id 7"},
		"Geneve to another port than the receiver's": {[]string{"ip link add t0" + ether + "type geneve id 7 dstport 700OWN remote 10.250.0.1OTHER", neighbour, up}, to4, nil, nil,
			"no geneve interface with id 7 and port 7001 takes it"},
		"Geneve for each packet, and the route has nothing": {[]string{"ip link add t0" + ether + "type geneve external", neighbour, up}, to4, nil, nil, "is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			p := tunnel(t, c.commands...)
			run(t, p.Node[0], c.first)
			run(t, p.Node[1], c.second)
			agree(t, p, c.to, false, c.word)
		})
	}
}

func TestInterfaceThatFitsBestTakesThePacket(t *testing.T) {
	p := tunnel(t, "modprobe ipip && ip link set tunl0 up", "ip link add any type ipip local 10.250.0.1OWN && ip link set any up", "ip link add t0 type ipip"+ends, up)
	agree(t, p, to4, true, "unwrapped by t0")
	p.Node[1].Sh(t, "iptables-legacy -A FORWARD -i t0 -j DROP")
	agree(t, p, to4, false, "rule 1 of chain FORWARD")
	p.Node[1].Sh(t, "iptables-legacy -F", "iptables-legacy -A FORWARD -i any -j DROP", "iptables-legacy -A FORWARD -i tunl0 -j DROP")
	agree(t, p, to4, true, "unwrapped by t0")
	p.Node[1].Sh(t, "iptables-legacy -F", "ip link set t0 down", "ip route replace 10.244.1.0/24 via 10.250.0.11 dev any onlink")
	agree(t, p, to4, true, "unwrapped by any")
	p.Node[1].Sh(t, "ip link set any down", "ip route replace 10.244.1.0/24 via 10.250.0.11 dev tunl0 onlink")
	agree(t, p, to4, true, "unwrapped by tunl0")
}

// TestEncapsulationsThatAreNotModelledAreUnknown has routes and interfaces that wrap packets in other ways: the kernel delivers,
// and the walk must not say where.
func TestEncapsulationsThatAreNotModelledAreUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		commands []string
		what     string
	}{
		"IPIP in UDP (FOU)": {[]string{"modprobe fou && ip fou add port 5555 ipproto 4", "ip link add t0 type ipip encap fou encap-sport auto encap-dport 5555" + ends, up}, "the encapsulation fou of t0"},
		"IPIP in UDP (GUE)": {[]string{"modprobe fou && ip fou add port 5555 gue", "ip link add t0 type ipip encap gue encap-sport auto encap-dport 5555" + ends, up}, "the encapsulation gue of t0"},
		"a route by MPLS": {[]string{"modprobe -a mpls_router mpls_iptunnel && sysctl -qw net.mpls.platform_labels=200 net.mpls.conf.eth0.input=1",
			"ip -f mpls route add 10OWN dev pod0 via inet 10.244.OWN.5", "ip route add 10.244.OTHER.0/24 encap mpls 10OTHER via 10.250.0.1OTHER"}, "the route's encapsulation mpls"},
	} {
		t.Run(name, func(t *testing.T) {
			p := tunnel(t, c.commands...)
			if real := p.Pod[0].Connects(to4); real != "connected" {
				t.Errorf("the real connection: %s", real)
			}
			x := p.Node[0].Walk(t, netns.Start("10.244.1.5", to4))
			if o := x.Outcomes[0]; len(x.Outcomes) != 1 || o.Verdict != trace.Undetermined || len(o.Unknown) != 1 || o.Unknown[0].What != c.what {
				t.Errorf("%+v\n%s", x.Outcomes, netns.Says(x))
			}
		})
	}
}
