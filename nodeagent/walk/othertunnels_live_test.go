//go:build linux

package walk_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

func TestTunnelsOfOtherKindsAreWalkedThrough(t *testing.T) {
	addr := netip.MustParseAddr
	local, remote := addr("10.250.0.11"), addr("10.250.0.12")
	for name, c := range map[string]struct {
		kind   string
		tunnel node.Tunnel
		// outer is where the outer packet goes, "" when that is not known; says is in the step.
		outer    string
		overhead int
		says     string
	}{
		"IPIP to a fixed end":                {"ipip", node.Tunnel{Local: local, Remote: remote}, "10.250.0.12:0", 20, "ipip, 20 bytes more"},
		"IPIP to the gateway, as Calico":     {"ipip", node.Tunnel{}, "10.250.0.13:0", 20, "ipip"},
		"Geneve":                             {"geneve", node.Tunnel{ID: 7, Remote: remote, Port: 6081}, "10.250.0.12:6081", 50, "geneve 7, UDP port 6081, 50 bytes more"},
		"Geneve with an end for each packet": {"geneve", node.Tunnel{External: true, Port: 6081}, "", 50, ""},
		"GRE":                                {"gre", node.Tunnel{Local: local, Remote: remote}, "10.250.0.12:0", 24, "gre"},
	} {
		t.Run(name, func(t *testing.T) {
			namespace(t, append(wg0, "ip route add 10.250.0.13 dev eth0", "ip route add 10.244.2.0/24 via 10.250.0.13 dev wg0 onlink")...)
			s := start("10.244.1.0:40000", "10.244.2.5:80")
			s.Follow = false
			x := walkTunnel(t, wgNode{kind: c.kind, tunnel: &c.tunnel}, s)
			o := x.Outcomes[0]
			if len(x.Outcomes) != 1 || o.Verdict != trace.Forwarded || o.Tunnel == nil || o.Tunnel.Kind != c.kind || o.Tunnel.Overhead != c.overhead {
				t.Fatalf("%+v", x.Outcomes)
			}
			if c.outer == "" {
				if o.Tunnel.Destination.Addr().IsValid() || !strings.Contains(o.Reason, "is not known") {
					t.Errorf("%+v", o)
				}
				return
			}
			if o.Tunnel.Destination.String() != c.outer || o.Out != "eth0" || o.Tunnel.OuterMTU != 1500 {
				t.Errorf("by %s: %+v", o.Out, o.Tunnel)
			}
			says := ""
			for _, i := range o.Path {
				says += x.Hops[i].Says + "\n"
			}
			if !strings.Contains(says, c.says) {
				t.Errorf("%s", says)
			}
		})
	}
}

func TestTunnelsOfOtherKindsAreTakenFrom(t *testing.T) {
	local, remote := netip.MustParseAddr("10.250.0.11"), netip.MustParseAddr("10.250.0.12")
	for name, c := range map[string]struct {
		made    wgNode
		arrives trace.Tunnel
		verdict trace.Verdict
	}{
		"IPIP":                    {wgNode{kind: "ipip", tunnel: &node.Tunnel{}}, trace.Tunnel{Kind: "ipip"}, trace.Local},
		"IPIP from somebody else": {wgNode{kind: "ipip", tunnel: &node.Tunnel{Local: local, Remote: netip.MustParseAddr("10.250.0.99")}}, trace.Tunnel{Kind: "ipip"}, trace.Dropped},
		"Geneve":                  {wgNode{kind: "geneve", tunnel: &node.Tunnel{ID: 7, Port: 6081}}, trace.Tunnel{Kind: "geneve", ID: 7, Destination: netip.AddrPortFrom(local, 6081)}, trace.Local},
		"Geneve with another ID":  {wgNode{kind: "geneve", tunnel: &node.Tunnel{ID: 8, Port: 6081}}, trace.Tunnel{Kind: "geneve", ID: 7, Destination: netip.AddrPortFrom(local, 6081)}, trace.Dropped},
	} {
		t.Run(name, func(t *testing.T) {
			namespace(t, wg0...)
			s := start("10.244.2.5:4000", "10.244.1.0:80")
			s.Follow, s.Arrives, s.Tunnel = false, local, &c.arrives
			s.Tunnel.Source = netip.AddrPortFrom(remote, 0)
			if !s.Tunnel.Destination.IsValid() {
				s.Tunnel.Destination = netip.AddrPortFrom(local, 0)
			}
			if x := walkTunnel(t, c.made, s); len(x.Outcomes) != 1 || x.Outcomes[0].Verdict != c.verdict {
				t.Errorf("%+v", x.Outcomes)
			}
		})
	}
}
