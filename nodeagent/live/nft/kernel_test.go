//go:build linux

package nft_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// conditions are matches that a packet over lo is held against, in the kernel and in the engine. Sets and maps that they
// name are in conditionSets.
var conditions = strings.Split(strings.TrimSpace(`
meta l4proto tcp
meta l4proto udp
meta l4proto != udp
meta l4proto { tcp, sctp }
meta nfproto ipv4
meta nfproto ipv6
meta protocol ip6
meta mark 0
meta mark 0x10
meta mark & 0xff == 0
meta mark & 0x1 != 0
meta mark { 0, 5 }
meta mark 0x0-0x5
meta mark 0x1-0x5
meta mark << 4 == 0
meta length < 20
meta length > 20
meta length 1-65535
meta pkttype host
meta pkttype other
meta priority none
meta cpu < 1000
meta iiftype loopback
meta oiftype loopback
meta iiftype ether
iif lo
iif != lo
oif lo
oif != lo
iifname "lo"
iifname != "lo"
iifname "l*"
iifname "x*"
iifname ""
oifname ""
oifname "lo"
oifname { "lo", "eth0" }
oifname { "l*", "eth0" }
iifname . oifname { "lo" . "lo", "" . "lo", "lo" . "" }
iifgroup 0
iifgroup 1
oifgroup default
meta iifkind "veth"
meta oifkind ""
meta sdif 0
meta sdifname ""
meta sdifname "lo"
meta skuid 0
meta skuid != 0
meta skuid 12
meta skgid 0
meta skgid { 0, 1 }
meta ipsec missing
meta ipsec exists
ip saddr 127.0.0.1
ip saddr != 127.0.0.1
ip saddr 127.0.0.0/8
ip saddr 127.0.0.0/15
ip saddr 128.0.0.0/1
ip saddr 0.0.0.0/0
ip daddr 127.0.0.2
ip daddr 127.0.0.0-127.0.0.9
ip daddr != 127.0.0.0-127.0.0.9
ip daddr & 0.0.0.255 == 0.0.0.2
ip daddr { 127.0.0.2, 10.0.0.1 }
ip daddr { 127.0.0.0/24, 10.0.0.0/8 }
ip daddr { 127.0.0.3-127.0.0.9, 10.0.0.0/8 }
ip daddr @addrs
ip daddr != @addrs
ip daddr @nets
ip daddr @empty
ip saddr . ip daddr { 127.0.0.1 . 127.0.0.2 }
ip saddr . ip daddr { 127.0.0.0/8 . 127.0.0.2-127.0.0.4 }
ip saddr . th dport @pairs
ip saddr . th dport @ranges
ip daddr . meta l4proto . th dport { 127.0.0.2 . udp . 4242, 127.0.0.2 . tcp . 4243 }
ip protocol udp
ip protocol { tcp, udp }
ip ttl 64
ip ttl > 64
ip ttl <= 64
ip ttl 1-63
ip version 4
ip hdrlength 5
ip dscp cs0
ip dscp cs1
ip ecn not-ect
ip frag-off & 0x1fff == 0
ip frag-off & 0x1fff != 0
ip length < 20
ip6 saddr fd00::1
ip6 daddr fd00::2
ip6 daddr fd00::/64
ip6 daddr fd00::/63
ip6 saddr != fd00::/16
ip6 daddr { fd00::2, ::1 }
ip6 daddr { fd00::1-fd00::3 }
ip6 nexthdr udp
ip6 hoplimit 64
ip6 saddr . ip6 daddr { fd00::1 . fd00::2 }
exthdr frag exists
exthdr frag missing
hbh nexthdr tcp
udp sport 40000
udp dport 4242
udp dport 4243
udp dport != 4243
udp length 12
udp length > 100
tcp sport 40000
tcp dport 4243
tcp dport { 4243, 80 }
tcp dport 4000-5000
tcp dport != 4000-5000
tcp dport > 4243
tcp dport >= 4243
tcp flags syn
tcp flags == syn
tcp flags ack
tcp flags & (syn | ack) == syn
tcp flags & (fin | syn | rst | ack) != syn
tcp flags { syn, syn | ack }
tcp flags ! ack
th sport 40000
th dport { 4242, 4243 }
th dport . ip saddr { 4242 . 127.0.0.1 }
@th,16,16 4242
@th,16,16 4243
@nh,72,8 17
@th,0,32 & 0xffff == 4242
@ih,0,8 0x68
@ll,0,8 0
icmp type echo-request
icmpv6 type echo-request
icmp code 0
sctp dport 4242
sctp chunk init exists
udplite dport 4242
ct state new
ct state established
ct state new,established
ct state { new, established }
ct state invalid
ct state untracked
ct state != new
ct state ! established
ct direction original
ct direction reply
ct status dnat
ct status confirmed
ct status ! confirmed
ct mark 0
ct mark 1
ct mark { 0, 1 }
ct zone 0
ct zone 1
ct original zone 0
ct reply zone 5
ct original ip saddr 127.0.0.1
ct original ip daddr 127.0.0.2
ct reply ip saddr 127.0.0.2
ct original ip6 saddr fd00::1
ct original ip saddr . ct reply ip saddr { 127.0.0.1 . 127.0.0.2 }
meta l4proto udp ct original proto-dst 4242
meta l4proto tcp ct reply proto-src 4243
ct protocol udp
ct l3proto ipv4
ct helper "ftp"
ct label 1
ct packets < 1
ct original bytes > 100000
ct count 100
ct count over 100
fib daddr type local
fib daddr type != local
fib daddr type { local, broadcast }
fib daddr type unicast
fib saddr type local
rt ip nexthop 127.0.0.2
rt ip nexthop 127.0.0.1
rt ip6 nexthop fd00::2
rt ipsec missing
tcp option maxseg size 1-65535
tcp option sack-perm missing
ip option lsrr exists
ip option lsrr missing
numgen inc mod 2 0
numgen random mod 1000000 1000001
jhash ip saddr mod 2 seed 0x0 0
jhash ip saddr mod 2 seed 0x0 1
jhash ip saddr . ip daddr mod 16 seed 0xdeadbeef < 8
jhash ip daddr . udp dport mod 1024 seed 0x1 > 511
jhash ip6 saddr . ip6 daddr mod 3 seed 0x5 1
jhash tcp dport mod 100 seed 0x7 offset 50 > 99
symhash mod 2 < 2
limit rate 1000000/second
limit rate over 1000000/second
quota 1 mbytes
quota over 1 mbytes
quota name "spent"
quota name "fresh"
limit name "lim"
counter name "cnt"
counter name ip daddr map { 127.0.0.2 : "cnt" }
counter name ip daddr map { 127.0.0.3 : "cnt" }
add @seen { ip saddr }
add @seen { ip daddr limit rate 1000/second }
add @full { ip daddr }
add @full6 { ip6 daddr }
update @timed { ip saddr timeout 10s }
delete @timed { ip saddr }
meta time > 1000
meta hour "00:00"-"23:59"
meta day { "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday" }
meta day { "Monday", "Tuesday" }
meta mark set th dport map { 4242 : 0, 1 : 1 }
meta mark set th dport map @ports
meta mark set ip daddr map { 127.0.0.0/24 : 0 }
meta mark set meta mark | 0
th dport vmap { 4242 : continue }
th dport vmap { 1-65535 : continue }
th dport vmap { 1 : continue, * : continue }
th dport vmap { 4243 : jump nothing }
th dport vmap @verdicts
ct mark set 0
`), "\n")

const conditionSets = `
 set addrs { type ipv4_addr; elements = { 127.0.0.2, 127.0.0.3 } }
 set empty { type ipv4_addr; }
 set nets { type ipv4_addr; flags interval; elements = { 127.0.0.0/30, 10.0.0.0-10.0.0.7, 255.255.255.0/24 } }
 set pairs { type ipv4_addr . inet_service; elements = { 127.0.0.1 . 4242, 127.0.0.9 . 4243 } }
 set ranges { type ipv4_addr . inet_service; flags interval; elements = { 127.0.0.0/30 . 4200-4242, 10.0.0.0/8 . 80 } }
 set seen { type ipv4_addr; flags dynamic; size 16; }
 set full { type ipv4_addr; flags dynamic; size 2; elements = { 1.1.1.1, 1.1.1.2 } }
 set full6 { type ipv6_addr; flags dynamic; size 2; elements = { fd00::1, fd00::2 } }
 set timed { type ipv4_addr; flags dynamic,timeout; size 16; timeout 1h; }
 map ports { type inet_service : mark; elements = { 4243 : 0, 5 : 5 } }
 map verdicts { type inet_service : verdict; elements = { 4242 : jump nothing, * : continue } }
 quota spent { over 10 bytes used 10 bytes }
 quota fresh { 100 mbytes }
 limit lim { rate 100000/second }
 counter cnt { }
 chain nothing { }
`

// sent is a packet that is really sent, and how the engine is told about it.
type sent struct {
	name    string
	network string
	src     string
	dst     string
}

var packets = []sent{
	{"udp4", "udp", "127.0.0.1:40000", "127.0.0.2:4242"},
	{"tcp4", "tcp", "127.0.0.1:40000", "127.0.0.2:4243"},
	{"udp6", "udp", "[fd00::1]:40000", "[fd00::2]:4242"},
	{"tcp6", "tcp", "[fd00::1]:40000", "[fd00::2]:4243"},
}

// send sends the first packet of a new connection; nobody listens.
func (s sent) send(t *testing.T) {
	t.Helper()
	src, dst := netip.MustParseAddrPort(s.src), netip.MustParseAddrPort(s.dst)
	// By system calls: the net package may open its socket on another thread, in another namespace.
	family, typ := unix.AF_INET, unix.SOCK_DGRAM
	sockaddr := func(a netip.AddrPort) unix.Sockaddr {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	if src.Addr().Is6() {
		family = unix.AF_INET6
		sockaddr = func(a netip.AddrPort) unix.Sockaddr {
			return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
		}
	}
	if s.network == "tcp" {
		typ = unix.SOCK_STREAM
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, sockaddr(src)); err != nil {
		t.Fatalf("binding to %s: %v", src, err)
	}
	if s.network == "tcp" {
		if err := unix.Connect(fd, sockaddr(dst)); err != unix.ECONNREFUSED {
			t.Fatalf("connecting to %s: %v", dst, err)
		}
		return
	}
	if err := unix.Sendto(fd, []byte("hell"), 0, sockaddr(dst)); err != nil {
		t.Fatalf("sending to %s: %v", dst, err)
	}
}

// describe is the packet for the engine, at a hook.
func (s sent) describe(t *testing.T, hook skb.Hook) *skb.Packet {
	t.Helper()
	proto := uint8(skb.UDP)
	if s.network == "tcp" {
		proto = skb.TCP
	}
	p := newPacket(t, proto, s.src, s.dst)
	p.Hook = hook
	p.Owner = &skb.Owner{}
	switch hook {
	case skb.Output, skb.Postrouting:
		p.Out, p.Local = "lo", true
	default:
		// The socket is not with the packet any more once it came in; its connection was confirmed when it was sent.
		p.In, p.Owner = "lo", nil
		p.Ct.Status |= skb.StatusConfirmed
	}
	if p.Family == skb.IPv4 {
		p.SetNetwork(1, []byte{0})
		p.SetNetwork(8, []byte{64})
	} else {
		p.SetNetwork(0, []byte{0x60, 0, 0, 0})
		p.SetNetwork(7, []byte{64})
	}
	if proto == skb.UDP {
		p.SetTransport(4, binary.BigEndian.AppendUint16(nil, 12))
		if p.Family == skb.IPv4 {
			p.SetNetwork(2, binary.BigEndian.AppendUint16(nil, 32))
		} else {
			p.SetNetwork(4, binary.BigEndian.AppendUint16(nil, 12))
		}
	}
	return p
}

// loadConditions loads the conditions as rules of one chain, each with a counter and a harmless effect behind it, so that the
// engine has to decide them. It returns those that this hook or kernel refuses.
func loadConditions(t *testing.T, hook string, refused map[int]bool) map[int]bool {
	t.Helper()
	run(t, "", "nft", "flush", "ruleset")
	head := fmt.Sprintf("table inet t {\n%s chain c { type filter hook %s priority 10; policy accept;\n"+
		"ct state new ip daddr 127.0.0.2 goto r\nct state new ip6 daddr fd00::2 goto r\n}\n chain r {\n", conditionSets, hook)
	var lines []string
	for i, c := range conditions {
		line := fmt.Sprintf("%s counter meta priority set 0:0 comment \"%d\"", c, i)
		if refused[i] {
			line = ""
		}
		lines = append(lines, line)
	}
	found := loadWhatWorks(t, head, lines, "}\n}\n")
	for i := range refused {
		found[i] = true
	}
	return found
}

func TestConditionsMatchAsInTheKernel(t *testing.T) {
	decided, open := 0, 0
	opened := map[string]bool{}
	for _, at := range []struct {
		hook skb.Hook
		name string
	}{{skb.Prerouting, "prerouting"}, {skb.Input, "input"}, {skb.Output, "output"}, {skb.Postrouting, "postrouting"}} {
		// A namespace of its own: connections of the hook before would still be tracked.
		ctx := newNamespace(t)
		run(t, "", "ip", "addr", "add", "fd00::1/128", "dev", "lo", "nodad")
		run(t, "", "ip", "addr", "add", "fd00::2/128", "dev", "lo", "nodad")
		var refused map[int]bool
		for _, s := range packets {
			refused = loadConditions(t, at.name, refused)
			if len(refused) > 20 {
				t.Errorf("%s: %d of %d conditions could not be loaded", at.name, len(refused), len(conditions))
			}
			e := newEnv(t)
			for _, a := range []string{"127.0.0.1", "127.0.0.2", "fd00::1", "fd00::2"} {
				e.local[netip.MustParseAddr(a)] = true
			}
			e.routes = map[netip.Addr]node.Route{}
			for a := range e.local {
				e.routes[a] = node.Route{Type: node.RouteLocal, Out: "lo"}
			}
			ev := &nftables.Evaluator{Env: e, Now: time.Now}
			before := evaluate(t, ctx, e, ev, s.describe(t, at.hook))
			s.send(t)
			for _, r := range rules(t, ctx, e, node.NFTInet, "t", "r") {
				n, _, _ := r.Counter()
				got := before[r.Handle]
				var i int
				fmt.Sscan(r.Comment, &i)
				switch {
				case got == maybe:
					open++
					opened[conditions[i]] = true
				case n > 1:
					t.Errorf("%s at %s: %s: %d packets", s.name, at.name, conditions[i], n)
				default:
					decided++
					if (n == 1) != (got == yes) {
						t.Errorf("%s at %s: %s: the kernel counts %d, the engine says %v", s.name, at.name, conditions[i], n, got)
					}
				}
			}
		}
	}
	t.Logf("%d decided, %d open: %v", decided, open, slices.Sorted(maps.Keys(opened)))
	if decided < 10*open {
		t.Errorf("only %d decided, %d open", decided, open)
	}
}

type answer string

const (
	yes   answer = "it matches"
	no    answer = "it does not match"
	maybe answer = "it depends"
)

// evaluate tells for each rule of the chain whether the packet matches.
func evaluate(t *testing.T, ctx context.Context, e *env, ev *nftables.Evaluator, p *skb.Packet) map[uint64]answer {
	t.Helper()
	out := map[uint64]answer{}
	for _, r := range rules(t, ctx, e, node.NFTInet, "t", "r") {
		branches, err := rule.Enumerate(100, func(ch *rule.Chooser) (bool, error) {
			res, err := ev.Eval(ctx, r, p.Clone(), ch)
			// A jump ends the rule before its counter.
			return res.Matched && res.Code == rule.Continue, err
		})
		if err != nil {
			t.Fatalf("rule %d: %v", r.Handle, err)
		}
		out[r.Handle] = no
		if branches[0].Value {
			out[r.Handle] = yes
		}
		for _, b := range branches[1:] {
			if b.Value != branches[0].Value {
				out[r.Handle] = maybe
			}
		}
	}
	return out
}
