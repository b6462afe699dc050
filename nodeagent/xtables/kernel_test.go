//go:build linux

package xtables_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt/xtlab"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// kernelEnv answers what package xt reads from the kernel, and the little else that a namespace with only loopback has.
type kernelEnv struct {
	*xt.Reader
}

func (kernelEnv) Links(context.Context) ([]node.Link, error) {
	all, err := net.Interfaces()
	var out []node.Link
	for _, i := range all {
		l := node.Link{Name: i.Name, Index: i.Index, MTU: i.MTU, Flags: 1, Type: 1}
		if i.Flags&net.FlagLoopback != 0 {
			l.Flags, l.Type = l.Flags|8, 772
		}
		out = append(out, l)
	}
	return out, err
}

func (kernelEnv) Addresses(context.Context) ([]node.Address, error) { return nil, nil }
func (kernelEnv) Route(context.Context, node.RouteQuery) (node.Route, error) {
	return node.Route{Type: node.RouteLocal, Out: "lo"}, nil
}
func (kernelEnv) SourceRules(context.Context, bool) (bool, error) { return false, nil }
func (kernelEnv) FIBLookup(context.Context, node.FIBQuery) (node.Route, error) {
	return node.Route{Type: node.RouteLocal, Out: "lo"}, nil
}

func (kernelEnv) AddrType(_ context.Context, a netip.Addr, _ string) (node.RouteType, error) {
	if a.IsLoopback() {
		return node.RouteLocal, nil
	}
	return node.RouteUnicast, nil
}
func (kernelEnv) Listening(context.Context, uint8, netip.AddrPort) ([]node.Socket, error) {
	return nil, nil
}
func (kernelEnv) OnPort(context.Context, uint8, skb.Family, uint16) ([]node.Socket, error) {
	return nil, nil
}
func (kernelEnv) Sysctl(context.Context, string) (string, error) { return "", node.ErrNotFound }

// sent is a packet as it is sent and as it is described.
type sent struct {
	name     string
	proto    uint8
	src, dst netip.AddrPort
	tos, ttl uint8
	mark     uint32
	// mayFail: a rule may send it where there is no route.
	mayFail bool
}

var packets = map[skb.Family][]sent{
	skb.IPv4: {
		{"udp to 53", skb.UDP, ap("127.0.0.1:40000"), ap("127.0.0.1:53"), 0x10, 64, 5, false},
		{"tcp syn to 80", skb.TCP, ap("127.0.0.1:40001"), ap("127.0.0.2:80"), 0, 64, 0x10, false},
		{"icmp echo", skb.ICMP, ap("127.0.0.3:0"), ap("127.0.0.1:0"), 0x20, 200, 0, false},
		{"sctp init", skb.SCTP, ap("127.0.0.1:40002"), ap("127.0.0.5:99"), 1, 64, 0xffffffff, false},
		{"untracked udp", skb.UDP, ap("127.0.0.1:40003"), ap("127.0.0.1:9"), 0, 64, 0, false},
	},
	skb.IPv6: {
		{"udp6 to 53", skb.UDP, ap("[::1]:40000"), ap("[::1]:53"), 0x10, 64, 5, false},
		{"tcp6 syn to 80", skb.TCP, ap("[::1]:40001"), ap("[::1]:80"), 0, 64, 0x10, false},
		{"icmp6 echo", skb.ICMPv6, ap("[::1]:0"), ap("[::1]:0"), 0x20, 60, 0, false},
		{"sctp6 init", skb.SCTP, ap("[::1]:40002"), ap("[::1]:99"), 1, 64, 0xffffffff, false},
		{"untracked udp6", skb.UDP, ap("[::1]:40003"), ap("[::1]:9"), 0, 64, 0, false},
	},
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// describe returns the packet as the engine sees it, everything known but TCP options and payload.
func (s sent) describe(t *testing.T) *skb.Packet {
	t.Helper()
	p, err := skb.New(s.proto, s.src, s.dst)
	if err != nil {
		t.Fatal(err)
	}
	p.Hook, p.Out, p.Local, p.Owner, p.Mark = skb.Output, "lo", true, &skb.Owner{}, s.mark
	length := len(s.payload())
	if p.Family == skb.IPv4 {
		p.SetNetwork(1, []byte{s.tos})
		p.SetNetwork(2, binary.BigEndian.AppendUint16(nil, uint16(20+length)))
		p.SetNetwork(8, []byte{s.ttl})
	} else {
		p.SetNetwork(0, []byte{0x60 | s.tos>>4, s.tos << 4})
		p.SetNetwork(4, binary.BigEndian.AppendUint16(nil, uint16(length)))
		p.SetNetwork(7, []byte{s.ttl})
	}
	return p
}

// payload is the transport header and what follows.
func (s sent) payload() []byte {
	var b []byte
	switch s.proto {
	case skb.UDP:
		b = binary.BigEndian.AppendUint16(b, s.src.Port())
		b = binary.BigEndian.AppendUint16(b, s.dst.Port())
		b = append(b, 0, 13, 0, 0)
		b = append(b, "hello"...)
		s.checksum(b, 6)
	case skb.TCP:
		b = binary.BigEndian.AppendUint16(b, s.src.Port())
		b = binary.BigEndian.AppendUint16(b, s.dst.Port())
		b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4)
		s.checksum(b, 16)
	case skb.ICMP:
		b = []byte{8, 0, 0, 0, 0x12, 0x34, 0, 1}
		sum := ^fold(sum16(b))
		binary.BigEndian.PutUint16(b[2:], sum)
	case skb.ICMPv6:
		b = []byte{128, 0, 0, 0, 0x12, 0x34, 0, 1}
		s.checksum(b, 2)
	case skb.SCTP:
		b = binary.BigEndian.AppendUint16(b, s.src.Port())
		b = binary.BigEndian.AppendUint16(b, s.dst.Port())
		b = append(b, make([]byte, 8)...)
		b = append(b, 1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0x10, 0, 0, 1, 0, 1, 0, 0, 0, 1)
		binary.LittleEndian.PutUint32(b[8:], crc32c(b))
	}
	return b
}

func (s sent) checksum(b []byte, at int) {
	pseudo := append(s.src.Addr().AsSlice(), s.dst.Addr().AsSlice()...)
	pseudo = append(pseudo, 0, s.proto)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(b)))
	sum := ^fold(sum16(pseudo) + sum16(b))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], sum)
}

func sum16(b []byte) (sum uint32) {
	for i := 0; i < len(b); i += 2 {
		v := uint32(b[i]) << 8
		if i+1 < len(b) {
			v |= uint32(b[i+1])
		}
		sum += v
	}
	return sum
}

func fold(v uint32) uint16 {
	v = v&0xffff + v>>16
	return uint16(v&0xffff + v>>16)
}

func crc32c(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0x82f63b78
			} else {
				crc >>= 1
			}
		}
	}
	return ^crc
}

// send sends the packet from a raw socket.
func (s sent) send(t *testing.T) {
	t.Helper()
	body := s.payload()
	var packet []byte
	var to unix.Sockaddr
	domain := unix.AF_INET
	if s.src.Addr().Is4() {
		packet = append([]byte{0x45, s.tos, 0, 0, 0, 0, 0, 0, s.ttl, s.proto, 0, 0}, s.src.Addr().AsSlice()...)
		packet = append(packet, s.dst.Addr().AsSlice()...)
		binary.BigEndian.PutUint16(packet[2:], uint16(20+len(body)))
		to = &unix.SockaddrInet4{Addr: s.dst.Addr().As4()}
	} else {
		domain = unix.AF_INET6
		packet = []byte{0x60 | s.tos>>4, s.tos << 4, 0, 0, 0, 0, s.proto, s.ttl}
		binary.BigEndian.PutUint16(packet[4:], uint16(len(body)))
		packet = append(packet, s.src.Addr().AsSlice()...)
		packet = append(packet, s.dst.Addr().AsSlice()...)
		to = &unix.SockaddrInet6{Addr: s.dst.Addr().As16()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(s.mark)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(fd, append(packet, body...), 0, to); err != nil && !s.mayFail {
		t.Fatalf("sending %s: %v", s.name, err)
	}
}

// track is what conntrack does to the first packet of a flow at OUTPUT.
func track(p *skb.Packet, icmpID uint16) {
	if p.State == skb.CtUntracked {
		return
	}
	orig := skb.Tuple{Proto: p.Proto(), Src: p.Source(), Dst: p.Destination()}
	reply := orig.Reverse()
	if typ, _, ok := p.ICMPType(); ok {
		orig.Src = netip.AddrPortFrom(orig.Src.Addr(), icmpID)
		orig.Dst = netip.AddrPortFrom(orig.Dst.Addr(), uint16(typ)<<8)
		back := uint16(0)
		if typ == 128 {
			back = 129 << 8
		}
		reply = skb.Tuple{Proto: orig.Proto, Src: netip.AddrPortFrom(orig.Dst.Addr(), icmpID), Dst: netip.AddrPortFrom(orig.Src.Addr(), back)}
	}
	p.Ct = &skb.Conn{Orig: orig, Reply: reply, New: true}
	p.State = skb.CtNew
}

// kernelRule is a line of testdata/kernel.rules.
type kernelRule struct {
	exact       bool
	table, spec string
}

func kernelRules(t *testing.T, f skb.Family) []kernelRule {
	t.Helper()
	b, err := os.ReadFile("testdata/kernel.rules")
	if err != nil {
		t.Fatal(err)
	}
	var out []kernelRule
	for _, line := range strings.Split(string(b), "\n") {
		parts := strings.SplitN(line, " ", 5)
		if strings.HasPrefix(line, "#") || len(parts) != 5 || parts[1] != "both" && parts[1] != f.String() {
			continue
		}
		spec := parts[4]
		if !strings.Contains(spec, " -j ") && !strings.HasPrefix(spec, "-j ") {
			spec += " -j MARK --set-xmark 0x0/0x0"
		}
		// In a chain of its own, because iptables takes no -i in OUTPUT.
		out = append(out, kernelRule{parts[0] == "=", parts[2], "-A T " + spec})
	}
	return out
}

const kernelSets = `create ips hash:ip
add ips 127.0.0.1
create ips6 hash:ip family inet6
add ips6 ::1
create webs hash:ip,port counters
add webs 127.0.0.1,udp:53
add webs 127.0.0.2,tcp:80
add webs 127.0.0.1,icmp:8/0
add webs 127.0.0.5,sctp:99
create nets hash:net
add nets 127.0.0.0/29
add nets 127.0.0.2/32 nomatch
create ifaces hash:net,iface
add ifaces 127.0.0.0/8,lo
create trio hash:ip,port,ip
add trio 127.0.0.1,tcp:80,127.0.0.2
create ports bitmap:port range 50-90
add ports 53
create pairs hash:net,port
add pairs 127.0.0.0/24,udp:53
create range bitmap:ip range 127.0.0.4-127.0.0.15
add range 127.0.0.5
create fresh hash:ip
create both list:set
add both ips
add both ips6
`

func TestMatchesAndTargetsDoWhatTheKernelDoes(t *testing.T) {
	for _, f := range []skb.Family{skb.IPv4, skb.IPv6} {
		for _, s := range packets[f] {
			t.Run(fmt.Sprintf("%s %s", f, s.name), func(t *testing.T) { agree(t, f, s) })
		}
	}
}

func agree(t *testing.T, f skb.Family, s sent) {
	l := xtlab.New(t)
	l.Input(kernelSets, "ipset", "restore")
	xtlab.AddAccount(t, "plain", 0)
	xtlab.AddAccount(t, "limited", 5)
	rules := kernelRules(t, f)
	for _, table := range []string{"raw", "mangle", "filter"} {
		lines := []string{":T - [0:0]", "-A OUTPUT -j T"}
		if table == "raw" {
			lines = append(lines, "-A PREROUTING -j DROP") // so that nobody answers
		}
		for _, r := range rules {
			if r.table == table {
				lines = append(lines, r.spec)
			}
		}
		l.Restore(f, table, lines...)
	}
	reader := xt.New(nil)
	defer reader.Close()
	e := &xtables.Evaluator{Env: kernelEnv{reader}}
	// The engine first: the packet leaves traces in lists.
	type verdicts struct {
		rule     kernelRule
		yes, no  bool
		text     string
		branches string
	}
	said := map[string][]verdicts{}
	p := s.describe(t)
	at := map[string]int{}
	for _, table := range []string{"raw", "mangle", "filter"} {
		if table == "mangle" {
			track(p, 0x1234)
		}
		tab := l.Table(f, table)
		for _, r := range xtlab.Rules(t, tab) {
			if r.Chain != "T" {
				continue
			}
			after := map[string]*skb.Packet{}
			n := 0
			branches, err := rule.Enumerate(100, func(ch *rule.Chooser) (xtables.LegacyResult, error) {
				q := p.Clone()
				res, err := e.EvalRule(context.Background(), tab, r, q, ch)
				after[fmt.Sprint(n)] = q
				n++
				return res, err
			})
			if err != nil {
				t.Fatalf("%s: %v", tab.RuleText(r), err)
			}
			v := verdicts{text: tab.RuleText(r)}
			for _, b := range branches {
				v.yes, v.no = v.yes || b.Value.Matched, v.no || !b.Value.Matched
				v.branches += fmt.Sprintf(" %v %s %v;", b.Value.Matched, b.P, b.Assumptions)
			}
			p = after["0"]
			// A later rule is judged by what this one certainly did; uncertain ones here change nothing.
			idx := at[table]
			at[table]++
			k := 0
			for _, kr := range rules {
				if kr.table != table {
					continue
				}
				if k == idx {
					v.rule = kr
				}
				k++
			}
			said[table] = append(said[table], v)
		}
	}
	s.send(t)
	for _, table := range []string{"raw", "mangle", "filter"} {
		i := 0
		tab := l.Table(f, table)
		for _, r := range xtlab.Rules(t, tab) {
			if r.Chain != "T" {
				continue
			}
			v := said[table][i]
			i++
			if r.Packets > 1 {
				t.Errorf("%s: %d packets", v.text, r.Packets)
			}
			kernel := r.Packets == 1
			if kernel && !v.yes || !kernel && !v.no {
				t.Errorf("%s\nkernel: matched %v, engine:%s", v.text, kernel, v.branches)
			}
			if v.rule.exact && v.yes == v.no {
				t.Errorf("%s\nis not settled:%s", v.text, v.branches)
			}
		}
		if i != len(said[table]) {
			t.Errorf("%s: %d rules after, %d before", table, i, len(said[table]))
		}
	}
}
