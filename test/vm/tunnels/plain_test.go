//go:build linux

package tunnels

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// tunnel joins two nodes by a device of each. In commands OWN and OTHER stand for the numbers of the nodes.
func tunnel(t *testing.T, commands ...string) netns.Pair {
	t.Helper()
	p := netns.NewPair(t)
	for i, n := range p.Node {
		text := strings.Join(commands, " && ")
		run(t, n, strings.Split(strings.NewReplacer("OWN", fmt.Sprint(i+1), "OTHER", fmt.Sprint(2-i)).Replace(text), " && "))
	}
	return p
}

// run runs commands in a place. Those of the ip tool that come together are run by one process: a process costs much here.
func run(t *testing.T, p *netns.Place, commands []string) {
	t.Helper()
	var together []string
	for _, c := range append(slices.Clone(commands), "") {
		if rest, is := strings.CutPrefix(c, "ip "); is && rest[0] != '-' {
			together = append(together, rest)
			continue
		}
		if together != nil {
			p.IP(t, together...)
			together = nil
		}
		if c != "" {
			p.Sh(t, c)
		}
	}
}

// Commands that make t0 and lead to the other node's pods by it.
const (
	up      = "ip link set t0 up && ip addr add 10.244.OWN.0/32 dev t0 && ip route add 10.244.OTHER.0/24 dev t0"
	up6     = "ip link set t0 up && ip route add fd00:244:OTHER::/64 dev t0"
	ends    = " local 10.250.0.1OWN remote 10.250.0.1OTHER "
	ends6   = " local fd00:250::1OWN remote fd00:250::1OTHER "
	nextHop = "ip link set t0 up && ip addr add 10.244.OWN.0/32 dev t0 && ip route add 10.244.OTHER.0/24 via 10.250.0.1OTHER dev t0 onlink"
)

func TestOuterPacketIsAsTheWalkSays(t *testing.T) {
	neighbour := "ip neigh add 10.244.OTHER.5 lladdr 02:00:00:00:01:0OTHER dev t0"
	ether := " address 02:00:00:00:01:0OWN "
	for name, c := range map[string]struct {
		commands []string
		to       string
		proto    uint8
	}{
		"IPIP":        {[]string{"ip link add t0 type ipip" + ends, up}, to4, protoIPIP},
		"IPIP to any": {[]string{"ip link add t0 type ipip local 10.250.0.1OWN", nextHop}, to4, protoIPIP},
		"IPIP, as Calico does": {[]string{"modprobe ipip && ip link set tunl0 up && ip addr add 10.244.OWN.0/32 dev tunl0",
			"ip route add 10.244.OTHER.0/24 via 10.250.0.1OTHER dev tunl0 onlink"}, to4, protoIPIP},
		"IPIP by the route": {[]string{"ip link add t0 type ipip external && ip link set t0 up",
			"ip route add 10.244.OTHER.0/24 encap ip dst 10.250.0.1OTHER dev t0"}, to4, protoIPIP},
		"SIT":                        {[]string{"ip link add t0 type sit" + ends, up6}, to6, protoIPv6},
		"IPv4 in SIT":                {[]string{"ip link add t0 type sit mode any" + ends, up}, to4, protoIPIP},
		"IPv4 in ip6tnl":             {[]string{"ip link add t0 type ip6tnl mode any" + ends6, up}, to4, protoOptions},
		"ip6tnl":                     {[]string{"ip link add t0 type ip6tnl" + ends6, up6}, to6, protoOptions},
		"ip6tnl without limit":       {[]string{"ip link add t0 type ip6tnl encaplimit none" + ends6, up6}, to6, protoIPv6},
		"GRE":                        {[]string{"ip link add t0 type gre" + ends, up}, to4, protoGRE},
		"GRE with IPv6":              {[]string{"ip link add t0 type gre" + ends, up6}, to6, protoGRE},
		"GRE by the neighbour table": {[]string{"ip link add t0 type gre local 10.250.0.1OWN", nextHop, "ip neigh add 10.250.0.1OTHER lladdr 10.250.0.1OTHER dev t0"}, to4, protoGRE},
		"GRE by the route": {[]string{"ip link add t0 mtu 1400 type gre external && ip link set t0 up",
			"ip route add 10.244.OTHER.0/24 encap ip id 9 dst 10.250.0.1OTHER key dev t0"}, to4, protoGRE},
		"GRE with a key":            {[]string{"ip link add t0 type gre key 5" + ends, up}, to4, protoGRE},
		"GRE with a key each way":   {[]string{"ip link add t0 type gre ikey OTHER okey OWN" + ends, up}, to4, protoGRE},
		"GRE with checksums":        {[]string{"ip link add t0 type gre csum" + ends, up}, to4, protoGRE},
		"GRE with key and sequence": {[]string{"ip link add t0 type gre key 5 seq" + ends, up}, to4, protoGRE},
		"GRETAP":                    {[]string{"ip link add t0" + ether + "type gretap" + ends, neighbour, up}, to4, protoGRE},
		"GRETAP to any":             {[]string{"ip link add t0" + ether + "type gretap local 10.250.0.1OWN", "ip neigh add 10.250.0.1OTHER lladdr 02:00:00:00:01:0OTHER dev t0", nextHop}, to4, protoGRE},
		"Geneve":                    {[]string{"ip link add t0" + ether + "type geneve id 7 remote 10.250.0.1OTHER", neighbour, up}, to4, protoUDP},
		"Geneve over IPv6":          {[]string{"ip link add t0" + ether + "mtu 1430 type geneve id 7 remote fd00:250::1OTHER", neighbour, up}, to4, protoUDP},
		"Geneve to another port":    {[]string{"ip link add t0" + ether + "type geneve id 7 dstport 7777 remote 10.250.0.1OTHER", neighbour, up}, to4, protoUDP},
		"Geneve by the route": {[]string{"ip link add t0" + ether + "mtu 1450 type geneve external", neighbour, "ip link set t0 up",
			"ip route add 10.244.OTHER.0/24 encap ip id 77 dst 10.250.0.1OTHER dev t0"}, to4, protoUDP},
		"Geneve by the route, with options": {[]string{"ip link add t0" + ether + "mtu 1400 type geneve external", neighbour, "ip link set t0 up",
			"ip route add 10.244.OTHER.0/24 encap ip id 77 geneve_opts 0:1:0123456789abcdef,1:2:01234567 dst 10.250.0.1OTHER dev t0"}, to4, protoUDP},
		"Geneve by the route, over IPv6": {[]string{"ip link add t0" + ether + "mtu 1400 type geneve external", neighbour, "ip link set t0 up",
			"ip route add 10.244.OTHER.0/24 encap ip6 id 77 dst fd00:250::1OTHER src fd00:250::1OWN dev t0"}, to4, protoUDP},
		"VXLAN":                        {[]string{"ip link add t0" + ether + "mtu 1450 type vxlan id 7 dstport 4789 local 10.250.0.1OWN remote 10.250.0.1OTHER", neighbour, up}, to4, protoUDP},
		"VXLAN with packets too large": {[]string{"ip link add t0" + ether + "mtu 1451 type vxlan id 7 dstport 4789 local 10.250.0.1OWN remote 10.250.0.1OTHER", neighbour, up}, to4, protoUDP},
		"IPIP with packets too large":  {[]string{"ip link add t0 type ipip" + ends, up, "ip link set t0 mtu 1481"}, to4, protoIPIP},
		"VXLAN by the route": {[]string{"ip link add t0" + ether + "mtu 1450 type vxlan external dstport 4789", neighbour, "ip link set t0 up",
			"ip route add 10.244.OTHER.0/24 encap ip id 77 dst 10.250.0.1OTHER dev t0"}, to4, protoUDP},
	} {
		t.Run(name, func(t *testing.T) {
			p := tunnel(t, c.commands...)
			j := agree(t, p, c.to, true, "unwrapped by t")
			sameOuter(t, p, netip.MustParseAddrPort(c.to).Addr(), c.proto, tunnelOf(t, j.Forward))
		})
	}
}
