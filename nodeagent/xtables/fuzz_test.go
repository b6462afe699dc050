package xtables

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

// emptyNode is a node without anything.
type emptyNode struct{}

func (emptyNode) Links(context.Context) ([]node.Link, error) {
	return []node.Link{{Name: "eth0", Index: 2, Type: arpEthernet, Flags: 1}, {Name: "br0", Index: 3, Type: arpEthernet, Kind: "bridge"}}, nil
}
func (emptyNode) Addresses(context.Context) ([]node.Address, error) { return nil, nil }
func (emptyNode) SourceRules(context.Context, bool) (bool, error)   { return false, nil }
func (emptyNode) FIBLookup(context.Context, node.FIBQuery) (node.Route, error) {
	return node.Route{}, &node.RouteError{Errno: "ENETUNREACH", Number: 101}
}

func (emptyNode) Route(context.Context, node.RouteQuery) (node.Route, error) {
	return node.Route{}, &node.RouteError{Errno: "ENETUNREACH", Number: 101}
}
func (emptyNode) AddrType(context.Context, netip.Addr, string) (node.RouteType, error) {
	return node.RouteUnicast, nil
}
func (emptyNode) Recent(context.Context, string, skb.Family) ([]node.RecentEntry, error) {
	return nil, node.ErrNotFound
}
func (emptyNode) IPSetName(context.Context, uint16) (string, error) { return "s", nil }
func (emptyNode) IPSet(context.Context, string) (node.IPSet, error) {
	return node.IPSet{Name: "s", Type: "hash:ip,port"}, nil
}
func (emptyNode) IPSetTest(context.Context, string, skb.Family, []byte) (bool, error) {
	return false, nil
}
func (emptyNode) IPSetMembers(context.Context, string) ([]string, error) { return nil, nil }
func (emptyNode) Listening(context.Context, uint8, netip.AddrPort) ([]node.Socket, error) {
	return nil, nil
}
func (emptyNode) OnPort(context.Context, uint8, skb.Family, uint16) ([]node.Socket, error) {
	return nil, nil
}
func (emptyNode) Sysctl(context.Context, string) (string, error) { return "1", nil }

// fuzzPackets are packets of each shape.
func fuzzPackets(t *testing.T) []*skb.Packet {
	t.Helper()
	var out []*skb.Packet
	for _, ends := range [][2]string{{"10.0.0.1:0", "10.0.0.2:80"}, {"[fd00::1]:4000", "[fd00::2]:80"}} {
		for _, proto := range []uint8{skb.TCP, skb.UDP, skb.ICMP, skb.ICMPv6, skb.SCTP, skb.DCCP, skb.ESP, skb.AH, 0, 43, 135} {
			p, err := skb.New(proto, netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1]))
			if err != nil {
				t.Fatal(err)
			}
			p.Hook, p.In = skb.Prerouting, "br0"
			q := p.Clone()
			q.Hook, q.In, q.Out, q.Local = skb.Output, "", "eth0", true
			q.State = skb.CtNew
			tuple := skb.Tuple{Proto: proto, Src: q.Source(), Dst: q.Destination()}
			q.Ct = &skb.Conn{Orig: tuple, Reply: tuple.Reverse(), New: true}
			out = append(out, p, q)
		}
	}
	return out
}

func FuzzMatchesAndTargets(f *testing.F) {
	for m := range matchModules.all {
		for _, r := range m.revisions {
			f.Add(m.name, r.rev, make([]byte, r.size), true)
		}
	}
	for m := range targetModules.all {
		for _, r := range m.revisions {
			f.Add(m.name, r.rev, make([]byte, r.size), false)
		}
	}
	e := &Evaluator{Env: emptyNode{}}
	f.Fuzz(func(t *testing.T, name string, rev uint8, info []byte, match bool) {
		fuzz.Bounded(t, func() {
			for _, p := range fuzzPackets(t) {
				_, err := rule.Enumerate(256, func(ch *rule.Chooser) (bool, error) {
					p := p.Clone()
					if match {
						ok, _, err := e.EvalMatch(context.Background(), name, rev, info, p.Family, p, ch)
						return ok, err
					}
					_, err := e.EvalTarget(context.Background(), name, rev, info, p.Family, p, ch)
					return true, err
				})
				if errors.Is(err, rule.ErrTooManyBranches) {
					t.Fatalf("%s revision %d: %v", name, rev, err)
				}
				if text := MatchText(name, rev, info, p.Family) + TargetText(name, rev, info, p.Family); len(text) > 1<<16 {
					t.Fatalf("%s revision %d: a text of %d bytes", name, rev, len(text))
				}
				MatchUsesConntrack(name, rev, info)
				TargetUsesConntrack(name, rev, info)
				MatchPure(name, rev, info)
				TargetHasEffect(name, rev, info)
			}
		})
	})
}

func FuzzTable(f *testing.F) {
	entry := func(target string, verdict uint32) []byte {
		b := make([]byte, layout4.entry+40)
		binary.NativeEndian.PutUint16(b[layout4.targetOffset:], uint16(layout4.entry))
		binary.NativeEndian.PutUint16(b[layout4.nextOffset:], uint16(len(b)))
		binary.NativeEndian.PutUint16(b[layout4.entry:], 40)
		copy(b[layout4.entry+2:], target)
		binary.NativeEndian.PutUint32(b[layout4.entry+headerSize:], verdict)
		return b
	}
	accept := entry("", 0xfffffffe)
	f.Add(append(append([]byte{}, accept...), accept...), uint32(0), uint32(len(accept)), false)
	f.Add(append(entry("", 152), entry("ERROR", 0)...), uint32(0), uint32(152), false)
	f.Add(make([]byte, 400), uint32(8), uint32(0), true)
	f.Fuzz(func(t *testing.T, entries []byte, hook, underflow uint32, v6 bool) {
		fuzz.Bounded(t, func() {
			family := skb.IPv4
			if v6 {
				family = skb.IPv6
			}
			info := make([]byte, getinfoSize)
			copy(info, "filter")
			binary.NativeEndian.PutUint32(info[32:], 1<<skb.Input)
			binary.NativeEndian.PutUint32(info[36+4*int(skb.Input):], hook)
			binary.NativeEndian.PutUint32(info[56+4*int(skb.Input):], underflow)
			binary.NativeEndian.PutUint32(info[80:], uint32(len(entries)))
			tab, err := DecodeTable(family, "filter", info, entries)
			if err != nil {
				t.Fatal(err)
			}
			tab.UsesConntrack()
			_ = tab.Chains(func(Chain) bool { return true })
			e := &Evaluator{Env: emptyNode{}}
			for _, p := range fuzzPackets(t)[:1] {
				if p.Family != family {
					continue
				}
				r, err := tab.First(hook)
				for n := 0; err == nil && n < 1000; n++ {
					tab.RuleText(r)
					_, _ = rule.Enumerate(64, func(ch *rule.Chooser) (LegacyResult, error) {
						return e.EvalRule(context.Background(), tab, r, p.Clone(), ch)
					})
					r, err = tab.Next(r)
				}
			}
		})
	})
}
