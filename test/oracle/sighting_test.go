//go:build linux

package oracle

import (
	"net/netip"
	"testing"
)

func TestPacketsAreRecognised(t *testing.T) {
	for _, a := range [][2]string{{"192.0.2.1:1000", "10.244.1.11:80"}, {"[2001:db8::1]:1000", "[fd00::2]:80"}} {
		src, dst := netip.MustParseAddrPort(a[0]), netip.MustParseAddrPort(a[1])
		for _, proto := range []uint8{protoTCP, protoUDP, protoSCTP} {
			for _, st := range []stage{opening, answer, further} {
				s, ok := sightingOf(segment{proto: proto, src: src, dst: dst, stage: st, id: 77, peer: 78}.bytes())
				if !ok || s.id != 77 || s.src != src || s.dst != dst || s.refusal != "" {
					t.Errorf("protocol %d stage %d from %s: %+v %v", proto, st, src, s, ok)
				}
			}
		}
	}
}

func TestRefusalsNameTheRefusedPacket(t *testing.T) {
	src, dst := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("10.244.1.11:80")
	inner := segment{proto: protoUDP, src: src, dst: dst, id: 99}.bytes()
	icmp := append([]byte{3, 10, 0, 0, 0, 0, 0, 0}, inner...)
	outer := segment{proto: protoICMP, src: netip.AddrPortFrom(dst.Addr(), 0), dst: netip.AddrPortFrom(src.Addr(), 0)}.wrap(icmp)
	s, ok := sightingOf(outer)
	if !ok || s.id != 99 || s.refusal != "icmp-host-prohibited" {
		t.Errorf("got %+v %v", s, ok)
	}
}
