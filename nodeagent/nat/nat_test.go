package nat

import (
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func ends(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func tracked(t *testing.T, proto uint8, src, dst string) *skb.Packet {
	t.Helper()
	p, err := skb.New(proto, ends(src), ends(dst))
	if err != nil {
		t.Fatal(err)
	}
	tuple := skb.Tuple{Proto: proto, Src: p.Source(), Dst: p.Destination()}
	p.Ct, p.State = &skb.Conn{Orig: tuple, Reply: tuple.Reverse(), New: true}, skb.CtNew
	return p
}

func TestApply(t *testing.T) {
	one := func(a string, ports ...uint16) skb.NAT {
		r := skb.NAT{}
		if a != "" {
			r.Min, r.Max = addr(a), addr(a)
		}
		if len(ports) == 2 {
			r.Ports, r.MinPort, r.MaxPort = true, ports[0], ports[1]
		}
		return r
	}
	source := func(r skb.NAT) skb.NAT { r.Source = true; return r }
	random := func(r skb.NAT) skb.NAT { r.FullyRandom = true; return r }
	for name, c := range map[string]struct {
		r        skb.NAT
		src, dst string // afterwards
	}{
		"destination and port":                   {one("10.0.0.9", 8080, 8080), "10.1.1.1:4000", "10.0.0.9:8080"},
		"destination keeps its port":             {one("10.0.0.9"), "10.1.1.1:4000", "10.0.0.9:80"},
		"port only":                              {one("", 81, 81), "10.1.1.1:4000", "10.2.2.2:81"},
		"port range that holds the port":         {one("", 70, 90), "10.1.1.1:4000", "10.2.2.2:80"},
		"port range that does not: its first":    {one("", 1000, 2000), "10.1.1.1:4000", "10.2.2.2:1000"},
		"source keeps its port":                  {source(one("10.0.0.9")), "10.0.0.9:4000", "10.2.2.2:80"},
		"source random":                          {random(source(one("10.0.0.9"))), "10.0.0.9:0", "10.2.2.2:80"},
		"source port range holds":                {source(one("10.0.0.9", 3000, 5000)), "10.0.0.9:4000", "10.2.2.2:80"},
		"source port range: the kernel's choice": {source(one("10.0.0.9", 5000, 6000)), "10.0.0.9:0", "10.2.2.2:80"},
		"source port of one":                     {source(one("10.0.0.9", 5000, 5000)), "10.0.0.9:5000", "10.2.2.2:80"},
		"netmap":                                 {skb.NAT{Min: addr("10.9.0.0"), Max: addr("10.9.255.255"), Netmap: true}, "10.1.1.1:4000", "10.9.2.2:80"},
	} {
		p := tracked(t, skb.TCP, "10.1.1.1:4000", "10.2.2.2:80")
		if _, err := Apply(p, c.r, nil); err != nil {
			t.Fatal(err)
		}
		if p.Source() != ends(c.src) || p.Destination() != ends(c.dst) {
			t.Errorf("%s: %s -> %s, want %s -> %s", name, p.Source(), p.Destination(), c.src, c.dst)
		}
		if !p.Ct.NATDone(c.r.Source) {
			t.Errorf("%s: the translation is not marked as decided", name)
		}
	}
}

func TestRepliesOfATranslatedFlowAreUndone(t *testing.T) {
	p := tracked(t, skb.TCP, "10.1.1.1:4000", "10.96.0.1:80")
	if _, err := Apply(p, skb.NAT{Min: addr("10.0.0.9"), Max: addr("10.0.0.9"), Ports: true, MinPort: 8080, MaxPort: 8080}, nil); err != nil {
		t.Fatal(err)
	}
	reply, err := skb.New(skb.TCP, ends("10.0.0.9:8080"), ends("10.1.1.1:4000"))
	if err != nil {
		t.Fatal(err)
	}
	reply.Ct, reply.State = p.Ct, skb.CtEstablishedReply
	if did := Packet(reply, false); did != "" {
		t.Errorf("the destination of the reply was changed: %s", did)
	}
	Packet(reply, true)
	if reply.Source() != ends("10.96.0.1:80") {
		t.Errorf("the reply comes from %s, want the Service address", reply.Source())
	}
}

func TestNullBindingLeavesThePacket(t *testing.T) {
	p := tracked(t, skb.UDP, "10.1.1.1:4000", "10.2.2.2:53")
	NullBinding(p, false)
	if p.Destination() != ends("10.2.2.2:53") || !p.Ct.NATDone(false) || p.Ct.NATDone(true) || p.Ct.Status&skb.StatusDstNAT != 0 {
		t.Errorf("after the null binding: %s, status %#x", p.Destination(), p.Ct.Status)
	}
}
