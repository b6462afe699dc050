package ipset

import (
	"context"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

func packet(t *testing.T, proto uint8, src, dst string) *skb.Packet {
	t.Helper()
	p, err := skb.New(proto, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
	if err != nil {
		t.Fatal(err)
	}
	p.In, p.Mark = "eth0", 0x10
	return p
}

func TestEntryIsBuiltFromWhatTheRuleNames(t *testing.T) {
	src := [6]bool{true, true, true}
	const (
		ipSrc  = "0c000180080001400a000001"
		ipDst  = "0c000180080001400a000002"
		ip2Dst = "0c001480080001400a000002"
	)
	for _, c := range []struct {
		name, typ string
		family    skb.Family
		spec      Spec
		proto     uint8
		from      string
		want      string
		never     bool
		unknown   string
	}{
		{name: "source address", typ: "hash:ip", spec: Spec{1, src, false}, want: ipSrc},
		{name: "destination address", typ: "hash:net", spec: Spec{Dimensions: 1}, want: ipDst},
		{name: "more dimensions than needed", typ: "hash:ip", spec: Spec{Dimensions: 3}, want: ipDst},
		{name: "too few dimensions", typ: "hash:ip,port", spec: Spec{Dimensions: 1}, never: true},
		{name: "another family", typ: "hash:ip", family: skb.IPv6, spec: Spec{Dimensions: 1}, never: true},
		{name: "port", typ: "hash:ip,port", spec: Spec{Dimensions: 2}, want: ipDst + "0600044000500000" + "0500070006000000"},
		{name: "unknown port", typ: "hash:ip,port", spec: Spec{2, src, false}, from: "10.0.0.1:0", unknown: "source port"},
		{name: "icmp type", typ: "hash:ip,port", spec: Spec{Dimensions: 2}, proto: skb.ICMP, want: ipDst + "0600044008000000" + "0500070001000000"},
		{name: "no ports", typ: "hash:ip,port", spec: Spec{Dimensions: 2}, proto: skb.ESP, want: ipDst + "0600044000000000" + "0500070032000000"},
		{name: "three dimensions", typ: "hash:ip,port,net", spec: Spec{3, [6]bool{true, false, false}, false},
			want: ipSrc + "0600044000500000" + "0500070006000000" + ip2Dst},
		{name: "interface in", typ: "hash:net,iface", spec: Spec{2, [6]bool{false, true}, false}, want: ipDst + "0900170065746830" + "00000000"},
		{name: "no interface out", typ: "hash:net,iface", spec: Spec{Dimensions: 2}, never: true},
		{name: "mark", typ: "hash:ip,mark", spec: Spec{Dimensions: 2}, want: ipDst + "08000a4000000010"},
		{name: "bitmap of ports", typ: "bitmap:port", spec: Spec{Dimensions: 1}, want: "0600044000500000"},
		{name: "bitmap of other ports", typ: "bitmap:port", spec: Spec{1, src, false}, never: true},
		{name: "bitmap of ports, icmp", typ: "bitmap:port", proto: skb.ICMP, spec: Spec{Dimensions: 1}, never: true},
		{name: "hardware address", typ: "hash:mac", spec: Spec{Dimensions: 1}, unknown: "hardware address"},
	} {
		if c.proto == 0 {
			c.proto = skb.TCP
		}
		if c.from == "" {
			c.from = "10.0.0.1:4000"
		}
		set := node.IPSet{Name: "s", Type: c.typ, Family: c.family, PortFrom: 1, PortTo: 100}
		e := EntryOf(set, c.spec, packet(t, c.proto, c.from, "10.0.0.2:80"))
		if e.Never != c.never || e.Unknown != c.unknown || e.Unmodelled {
			t.Errorf("%s: %+v", c.name, e)
		}
		if got := hex.EncodeToString(e.Data); !c.never && c.unknown == "" && got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	if e := EntryOf(node.IPSet{Type: "hash:moon"}, Spec{Dimensions: 1}, packet(t, skb.TCP, "10.0.0.1:1", "10.0.0.2:80")); !e.Unmodelled {
		t.Errorf("a type that is not known: %+v", e)
	}
}

// sets is a fixed answer.
type sets map[string]struct {
	set     node.IPSet
	in      bool
	members []string
}

func (s sets) IPSetName(context.Context, uint16) (string, error) { return "", node.ErrNotFound }
func (s sets) IPSet(_ context.Context, name string) (node.IPSet, error) {
	if e, ok := s[name]; ok {
		return e.set, nil
	}
	return node.IPSet{}, node.ErrNotFound
}
func (s sets) IPSetTest(_ context.Context, name string, _ skb.Family, _ []byte) (bool, error) {
	return s[name].in, nil
}
func (s sets) IPSetMembers(_ context.Context, name string) ([]string, error) {
	return s[name].members, nil
}

func TestListsAskTheirMembersInTurn(t *testing.T) {
	s := sets{
		"l":     {set: node.IPSet{Name: "l", Type: "list:set"}, members: []string{"gone", "a", "loop", "b"}},
		"loop":  {set: node.IPSet{Name: "loop", Type: "list:set"}, members: []string{"l"}},
		"empty": {set: node.IPSet{Name: "empty", Type: "list:set"}},
		"a":     {set: node.IPSet{Name: "a", Type: "hash:ip,port"}, in: true}, // more dimensions than the rule has
		"b":     {set: node.IPSet{Name: "b", Type: "hash:ip"}, in: true},
	}
	for name, want := range map[string]bool{"l": true, "empty": false, "a": false, "b": true} {
		got, err := rule.Enumerate(4, func(ch *rule.Chooser) (bool, error) {
			return Test(context.Background(), s, name, Spec{Dimensions: 1}, packet(t, skb.TCP, "10.0.0.1:1", "10.0.0.2:80"), ch)
		})
		if err != nil || len(got) != 1 || got[0].Value != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestEarlierChangesOfTheSameWalkCount(t *testing.T) {
	s := sets{"b": {set: node.IPSet{Name: "b", Type: "hash:ip"}, in: true}, "c": {set: node.IPSet{Name: "c", Type: "hash:ip"}}}
	p := packet(t, skb.TCP, "10.0.0.1:1", "10.0.0.2:80")
	entry := string(EntryOf(s["b"].set, Spec{Dimensions: 1}, p).Data)
	p.Sets = []skb.SetTouch{{Set: "b", Entry: entry, Removed: true}, {Set: "c", Entry: entry}}
	for name, want := range map[string]bool{"b": false, "c": true} {
		got, err := rule.Enumerate(4, func(ch *rule.Chooser) (bool, error) {
			return Test(context.Background(), s, name, Spec{Dimensions: 1}, p, ch)
		})
		if err != nil || len(got) != 1 || got[0].Value != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
