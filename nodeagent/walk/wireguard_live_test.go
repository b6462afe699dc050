//go:build linux

package walk_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

// A kernel may have VXLAN alone of all tunnels. So an interface of another kind, wg0, is taken for one, and its peers or
// addresses are made up; everything else, the routes of the outer packet too, is the kernel's. test/vm/tunnels has real ones.
type wgNode struct {
	*live.Node
	device node.WireGuardDevice
	err    error
	// kind and tunnel are those of wg0.
	kind   string
	tunnel *node.Tunnel
}

func (n wgNode) Namespace(ctx context.Context, id string) (node.Namespace, string, error) {
	ns, label, err := n.Node.Namespace(ctx, id)
	return wgNamespace{ns, n}, label, err
}

type wgNamespace struct {
	node.Namespace
	n wgNode
}

func (n wgNamespace) Links(ctx context.Context) ([]node.Link, error) {
	links, err := n.Namespace.Links(ctx)
	links = slices.Clone(links)
	for i := range links {
		if links[i].Name == "wg0" {
			links[i].Kind, links[i].Tunnel, links[i].Peer = n.n.kind, n.n.tunnel, 0
		}
	}
	return links, err
}

func (n wgNamespace) WireGuard(_ context.Context, link int) (node.WireGuardDevice, error) {
	return n.n.device, n.n.err
}

func walkWireGuard(t *testing.T, d node.WireGuardDevice, failure error, s walk.Start) *trace.Trace {
	t.Helper()
	return walkTunnel(t, wgNode{device: d, err: failure, kind: "wireguard"}, s)
}

func walkTunnel(t *testing.T, made wgNode, s walk.Start) *trace.Trace {
	t.Helper()
	w := walk.Walker{Open: func(context.Context) (node.Node, func() error, error) {
		n, err := live.OpenNode()
		if err != nil {
			return nil, nil, err
		}
		made.Node = n
		return made, n.Close, nil
	}}
	got, err := w.Walk(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wgKey(n byte) node.WireGuardKey { return node.WireGuardKey{31: n} }

func keyText(k node.WireGuardKey) string { return base64.StdEncoding.EncodeToString(k[:]) }

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

var wg0 = []string{
	"ip link set lo up", "ip link add eth0 type veth peer name peer0", "ip link set eth0 up", "ip link set peer0 up", "ip addr add 10.250.0.11/24 dev eth0",
	"ip link add wg0 mtu 1420 type veth peer name wgpeer", "ip link set wg0 up", "ip link set wgpeer up", "ip addr add 10.244.1.0/32 dev wg0", "ip route add 10.244.0.0/16 dev wg0",
	"sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv4.conf.all.rp_filter=0", "sysctl -qw net.ipv4.conf.wg0.rp_filter=0", "sysctl -qw net.ipv4.conf.eth0.rp_filter=0",
}

var wgPeers = node.WireGuardDevice{PublicKey: wgKey(1), Port: 51820, Peers: []node.WireGuardPeer{
	{PublicKey: wgKey(2), Endpoint: netip.MustParseAddrPort("10.250.0.12:51820"), Allowed: prefixes("10.244.2.0/24", "10.250.0.12/32")},
	{PublicKey: wgKey(3), Endpoint: netip.MustParseAddrPort("10.250.0.13:51999"), Allowed: prefixes("10.244.2.128/25", "10.244.3.0/24")},
	{PublicKey: wgKey(4), Allowed: prefixes("10.244.4.0/24")},
}}

func TestPacketIsEncryptedForThePeerThatItsDestinationIsBehind(t *testing.T) {
	namespace(t, wg0...)
	for to, want := range map[string]struct {
		outer    string
		receiver node.WireGuardKey
		verdict  trace.Verdict
		says     string
	}{
		"10.244.2.5:80":   {"10.250.0.12:51820", wgKey(2), trace.Forwarded, ""},
		"10.244.2.200:80": {"10.250.0.13:51999", wgKey(3), trace.Forwarded, ""}, // the longer prefix
		"10.244.4.5:80":   {"", wgKey(0), trace.Rejected, "was never heard"},
		"10.244.9.5:80":   {"", wgKey(0), trace.Rejected, "no peer of wg0 has 10.244.9.5"},
	} {
		s := start("10.244.1.0:40000", to)
		s.Follow = false
		x := walkWireGuard(t, wgPeers, nil, s)
		if len(x.Outcomes) != 1 || x.Outcomes[0].Verdict != want.verdict || !strings.Contains(x.Outcomes[0].Reason, want.says) {
			t.Errorf("%s: %+v", to, x.Outcomes)
			continue
		}
		o := x.Outcomes[0]
		if want.outer == "" {
			if o.RejectWith != "icmp-host-unreachable" {
				t.Errorf("%s: %+v", to, o)
			}
			continue
		}
		if u := o.Tunnel; u == nil || u.Destination.String() != want.outer || u.Source.String() != "10.250.0.11:51820" || u.Receiver != keyText(want.receiver) || u.Sender != keyText(wgKey(1)) ||
			u.Overhead != 60 || u.MTU != 1420 || u.OuterMTU != 1500 || o.Out != "eth0" || o.Destination.String() != to {
			t.Errorf("%s: %+v by %s: %+v", to, o.Destination, o.Out, u)
		}
	}
}

func TestMarkOfTheInterfaceRoutesTheOuterPacket(t *testing.T) {
	namespace(t, append(wg0, "ip rule add fwmark 0x51 lookup 51", "ip route add unreachable 10.250.0.12 table 51")...)
	marked := wgPeers
	marked.Mark = 0x51
	s := start("10.244.1.0:40000", "10.244.2.5:80")
	s.Follow = false
	if x := walkWireGuard(t, marked, nil, s); x.Outcomes[0].Verdict != trace.Dropped || !strings.Contains(x.Outcomes[0].Reason, "no route to 10.250.0.12") {
		t.Errorf("%+v", x.Outcomes)
	}
}

func TestPacketIsTakenFromThePeerThatMaySendIt(t *testing.T) {
	namespace(t, wg0...)
	arrives := func(source string, sender, receiver node.WireGuardKey, port string) *trace.Trace {
		s := start(source, "10.244.1.0:80")
		s.Arrives, s.Follow = netip.MustParseAddr("10.250.0.11"), false
		s.Tunnel = &trace.Tunnel{Kind: "wireguard", Sender: keyText(sender), Receiver: keyText(receiver),
			Source: netip.MustParseAddrPort("10.250.0.12:51820"), Destination: netip.MustParseAddrPort("10.250.0.11:" + port)}
		return walkWireGuard(t, wgPeers, nil, s)
	}
	for name, c := range map[string]struct {
		x       *trace.Trace
		verdict trace.Verdict
		says    string
	}{
		"rightly":                        {arrives("10.244.2.5:4000", wgKey(2), wgKey(1), "51820"), trace.Local, "no socket listens"},
		"from an address of another":     {arrives("10.244.3.5:4000", wgKey(2), wgKey(1), "51820"), trace.Dropped, "may not send from 10.244.3.5"},
		"from nobody's address":          {arrives("10.7.7.7:4000", wgKey(2), wgKey(1), "51820"), trace.Dropped, "may not send from 10.7.7.7"},
		"by a peer that is not known":    {arrives("10.244.2.5:4000", wgKey(9), wgKey(1), "51820"), trace.Dropped, "may not send"},
		"for a key that is not its own":  {arrives("10.244.2.5:4000", wgKey(2), wgKey(8), "51820"), trace.Dropped, "another key"},
		"to a port where nobody listens": {arrives("10.244.2.5:4000", wgKey(2), wgKey(1), "51821"), trace.Dropped, "no wireguard interface listens on port 51821"},
	} {
		if len(c.x.Outcomes) != 1 || c.x.Outcomes[0].Verdict != c.verdict || !strings.Contains(c.x.Outcomes[0].Reason, c.says) {
			t.Errorf("%s: %+v", name, c.x.Outcomes)
		}
	}
}

func TestPeersThatCannotBeReadAreNotGuessed(t *testing.T) {
	namespace(t, wg0...)
	for name, failure := range map[string]error{"no WireGuard": node.ErrNotSupported, "no permission": node.ErrPermission, "garbage": errors.New("a key of 3 bytes")} {
		s := start("10.244.1.0:40000", "10.244.2.5:80")
		s.Follow = false
		x := walkWireGuard(t, node.WireGuardDevice{}, failure, s)
		o := x.Outcomes[0]
		if len(x.Outcomes) != 1 || o.Verdict != trace.Undetermined || len(o.Unknown) != 1 || !strings.Contains(o.Unknown[0].What, "wireguard interface wg0: "+failure.Error()) || o.Tunnel.Destination.IsValid() {
			t.Errorf("%s: %+v", name, x.Outcomes)
		}
	}
}
