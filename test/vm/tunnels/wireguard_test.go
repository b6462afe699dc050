//go:build linux

package tunnels

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// key is a WireGuard key pair, made by wg: the private key as a file, and the public key.
type key struct{ file, public string }

func newKey(t *testing.T) key {
	t.Helper()
	k := key{file: filepath.Join(t.TempDir(), "key")}
	out, err := exec.Command("sh", "-c", "umask 077; wg genkey >"+k.file+" && wg pubkey <"+k.file).Output()
	if err != nil {
		t.Fatalf("making a key (needs wireguard-tools): %v", err)
	}
	k.public = strings.TrimSpace(string(out))
	if info, err := os.Stat(k.file); err != nil || info.Size() != 45 {
		t.Fatalf("a key: %v %v", info, err)
	}
	return k
}

// wireGuard joins two nodes by wg0 of each, which takes the other node's pods.
func wireGuard(t *testing.T) (netns.Pair, [2]key) {
	t.Helper()
	p, keys := netns.NewPair(t), [2]key{newKey(t), newKey(t)}
	for i, n := range p.Node {
		own, other := i+1, 2-i
		n.IP(t, "link add wg0 type wireguard", "link set wg0 up", fmt.Sprintf("addr add 10.244.%d.0/32 dev wg0", own),
			"route add 10.244.0.0/16 dev wg0", "route add fd00:244::/32 dev wg0")
		n.Sh(t, fmt.Sprintf("wg set wg0 private-key %s listen-port 5182%d", keys[i].file, own)+
			strings.TrimPrefix(peer(keys[1-i].public, other, fmt.Sprintf("10.244.%d.0/24,fd00:244:%d::/64", other, other)), "wg set wg0"))
	}
	return p, keys
}

// peer is the command that sets a peer at a node with addresses behind it.
func peer(public string, node int, allowed string) string {
	return fmt.Sprintf("wg set wg0 peer %s endpoint 10.250.0.1%d:5182%d allowed-ips %s", public, node, node, allowed)
}

func TestWireGuardPacketIsAsTheWalkSays(t *testing.T) {
	p, keys := wireGuard(t)
	for _, to := range []string{to4, to6} {
		j := agree(t, p, to, true, "decrypted by wg0")
		x := tunnelOf(t, j.Forward)
		if x.Sender != keys[0].public || x.Receiver != keys[1].public {
			t.Errorf("from %s to %s, want %+v", x.Sender, x.Receiver, keys)
		}
		sameOuter(t, p, netip.MustParseAddrPort(to).Addr(), protoUDP, x)
	}
	for i, n := range p.Node { // the other family outside
		n.Sh(t, fmt.Sprintf("wg set wg0 peer %s endpoint [fd00:250::1%d]:5182%d && ip link set wg0 mtu 1421", keys[1-i].public, 2-i, 2-i))
	}
	j := agree(t, p, to4, true, "decrypted by wg0")
	if x := tunnelOf(t, j.Forward); x.Overhead != 80 || x.MTU != 1421 {
		t.Errorf("%+v", x)
	}
	for _, n := range p.Node {
		n.Sh(t, "ip link set wg0 mtu 1420")
	}
	j = agree(t, p, to4, true, "decrypted by wg0")
	sameOuter(t, p, netip.MustParseAddr("10.244.2.5"), protoUDP, tunnelOf(t, j.Forward))
}

func TestPeerIsTheOneThatTheAddressIsBehind(t *testing.T) {
	p, _ := wireGuard(t)
	another := newKey(t)
	// A longer prefix at another place: what is in it no longer goes to the second node.
	p.Node[0].Sh(t, peer(another.public, 3, "10.244.2.4/30"))
	j := agree(t, p, to4, false, "10.250.0.13")
	if x := tunnelOf(t, j.Forward); x.Receiver != another.public {
		t.Errorf("%+v", x)
	}
	if seen, _ := sendAndSee(t, p, p.Pod[0], func(s netns.Seen) bool {
		return s.Proto == protoUDP && s.Destination == netip.MustParseAddr("10.250.0.12")
	}); seen != nil {
		t.Errorf("sent to the other peer: %v", seen)
	}
}

func TestWrongPeersEndAsTheWalkSays(t *testing.T) {
	const unreachable = "icmp-host-unreachable"
	for name, c := range map[string]struct {
		setup func(t *testing.T, p netns.Pair, keys [2]key)
		word  string
		// with is what the sender is told, "" when nothing.
		with string
	}{
		"no peer has the address": {func(t *testing.T, p netns.Pair, keys [2]key) {
			p.Node[0].Sh(t, peer(keys[1].public, 2, "10.244.3.0/24"))
		}, "no peer of wg0 has 10.244.2.5", unreachable},
		"where the peer is was never heard": {func(t *testing.T, p netns.Pair, keys [2]key) {
			p.Node[0].Sh(t, "wg set wg0 peer "+keys[1].public+" remove", "wg set wg0 peer "+keys[1].public+" allowed-ips 10.244.2.0/24")
		}, "was never heard", unreachable},
		"the receiver has the sender behind nobody": {func(t *testing.T, p netns.Pair, keys [2]key) {
			p.Node[1].Sh(t, peer(keys[0].public, 1, "10.244.3.0/24"))
		}, "may not send from 10.244.1.5", ""},
		"the receiver has the sender behind another": {func(t *testing.T, p netns.Pair, keys [2]key) {
			p.Node[1].Sh(t, peer(newKey(t).public, 3, "10.244.1.5/32"))
		}, "may not send from 10.244.1.5", ""},
		"the receiver has another key": {func(t *testing.T, p netns.Pair, keys [2]key) {
			p.Node[1].Sh(t, "wg set wg0 private-key "+newKey(t).file)
		}, "encrypted for another key", ""},
		"the receiver listens on another port": {func(t *testing.T, p netns.Pair, keys [2]key) {
			p.Node[1].Sh(t, "wg set wg0 listen-port 51999 && wg set wg0 peer "+keys[0].public+" remove")
		}, "no wireguard interface listens on port 51822", ""},
		"the receiver does not know the sender": {func(t *testing.T, p netns.Pair, keys [2]key) {
			p.Node[1].Sh(t, "wg set wg0 peer "+keys[0].public+" remove")
		}, "may not send from 10.244.1.5", ""},
		"the mark of wg0 routes the outer packet elsewhere": {func(t *testing.T, p netns.Pair, keys [2]key) {
			p.Node[0].Sh(t, "wg set wg0 fwmark 0x51", "ip rule add fwmark 0x51 lookup 51", "ip route add unreachable default table 51")
		}, "no route to 10.250.0.12", ""},
		"a rule of the sender drops the outer packet": {func(t *testing.T, p netns.Pair, keys [2]key) {
			p.Node[0].Sh(t, "nft 'table inet x { chain y { type filter hook output priority 0; udp dport 51822 drop; }; }'")
		}, "of chain y in table inet x drops it", ""},
		"a rule of the receiver drops the outer packet": {func(t *testing.T, p netns.Pair, keys [2]key) {
			p.Node[1].Sh(t, "iptables-legacy -A INPUT -p udp --dport 51822 -j DROP")
		}, "INPUT", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, keys := wireGuard(t)
			c.setup(t, p, keys)
			j := agree(t, p, to4, false, c.word)
			o := j.Forward.Outcomes[0]
			if o.RejectWith != c.with || (o.Verdict == trace.Rejected) != (c.with != "") {
				t.Errorf("the sender is told %q, want %q", o.RejectWith, c.with)
			}
			told := told(t, p)
			if told != c.with {
				t.Errorf("the sender is really told %q, want %q", told, c.with)
			}
		})
	}
}

func TestProcessOfTheNodeIsRefusedWhereNoPeerHasTheAddress(t *testing.T) {
	p, keys := wireGuard(t)
	p.Node[0].Sh(t, peer(keys[1].public, 2, "10.244.3.0/24"))
	x := p.Node[0].Walk(t, netns.Start("10.244.1.0", to4))
	if o := x.Outcomes[0]; len(x.Outcomes) != 1 || o.Verdict != trace.Rejected || o.RejectWith != "icmp-host-unreachable" {
		t.Errorf("%s", netns.Says(x))
	}
	p.Node[0].Do(func() {
		if _, err := net.DialTimeout("tcp", to4, 3*time.Second); !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("connecting: %v", err)
		}
		c, err := net.Dial("udp", to4)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := c.Write([]byte{1}); !errors.Is(err, unix.ENOKEY) {
			t.Errorf("sending: %v", err)
		}
	})
}

// told tells which ICMP error comes back to the first pod when it sends to the second, "" when none does before that for a
// closed port of its node, to which it sends next.
func told(t *testing.T, p netns.Pair) string {
	t.Helper()
	const unreachable, hostUnreachable, portUnreachable = 3, 1, 3
	seen := p.Pod[0].Capture(t, "eth0")
	send(t, p.Pod[0], netip.MustParseAddrPort("10.244.2.5:9"), 100)
	send(t, p.Pod[0], netip.MustParseAddrPort("10.244.1.1:9"), 100)
	s, before := seen.Until(func(s netns.Seen) bool { return s.Proto == 1 && len(s.Data) > 2 && s.Data[0] == unreachable })
	switch {
	case s == nil:
		t.Fatalf("no answer at all; seen: %v", before)
	case s.Data[1] == hostUnreachable:
		return "icmp-host-unreachable"
	case s.Data[1] != portUnreachable:
		t.Errorf("ICMP code %d", s.Data[1])
	}
	return ""
}

// sendAndSee sends from a place to the second pod, and captures on the second node.
func sendAndSee(t *testing.T, p netns.Pair, from *netns.Place, wanted func(netns.Seen) bool) (*netns.Seen, []netns.Seen) {
	t.Helper()
	seen := p.Node[1].Capture(t, "eth0")
	send(t, from, netip.MustParseAddrPort("10.244.2.5:9"), 100)
	return seen.Until(wanted)
}
