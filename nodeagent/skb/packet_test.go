package skb

import (
	"net/netip"
	"testing"
)

func TestAPacketKnowsWhatItWasToldAndNoMore(t *testing.T) {
	p, err := New(TCP, netip.MustParseAddrPort("10.0.0.1:0"), netip.MustParseAddrPort("10.0.0.2:80"))
	if err != nil {
		t.Fatal(err)
	}
	if _, known := p.SrcPort(); known {
		t.Error("a source port of 0 is taken for known")
	}
	if port, known := p.DstPort(); !known || port != 80 {
		t.Errorf("destination port %d, known %v", port, known)
	}
	if flags, known := p.TCPFlags(); flags != 2 || known != 0xff {
		t.Errorf("flags %#x, known %#x, want SYN alone", flags, known)
	}
	if _, known, _ := p.Network(8, 1); known[0] != 0 {
		t.Error("the TTL is taken for known")
	}
	q := p.Clone()
	q.SetDestination(netip.MustParseAddrPort("10.0.0.3:8080"))
	if p.Destination() != netip.MustParseAddrPort("10.0.0.2:80") || q.Dst() != netip.MustParseAddr("10.0.0.3") {
		t.Error("a clone shares its bytes")
	}
	if _, err := New(TCP, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("[fd00::1]:80")); err == nil {
		t.Error("two families in one packet")
	}
}
