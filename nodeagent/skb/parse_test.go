package skb

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	ipv4Fragment = "45000024 00012000 40110000 0a000001 0a000002 03e80035 00180000 0102030405060708"
	ipv4Later    = "45000024 00010002 40110000 0a000001 0a000002 03e80035 00180000 0102030405060708"
	ipv6Headers  = "60000000 0028 00 40 fd000000000000000000000000000001 fd000000000000000000000000000002" +
		"3c00010400000000 2b00010400000000 3300fd0000000000 11010000 00000005 00000001 03e80035 000c0000 00000000"
	ipv6Fragment = "60000000 0018 2c 40 fd000000000000000000000000000001 fd000000000000000000000000000002" +
		"11000001 00000009 03e80035 00180000 0102030405060708"
	ipv6Alone = "60000000 0014 2c 40 fd000000000000000000000000000001 fd000000000000000000000000000002" +
		"11000000 00000009 03e80035 000c0000 01020304"
)

func TestParseFindsTheTransportHeader(t *testing.T) {
	for name, c := range map[string]struct {
		packet          string
		proto           uint8
		source          string
		later, fragment bool
	}{
		"first fragment":    {ipv4Fragment, UDP, "10.0.0.1:1000", false, true},
		"later fragment":    {ipv4Later, UDP, "10.0.0.1:0", true, true},
		"extension headers": {ipv6Headers, UDP, "[fd00::1]:1000", false, false},
		"IPv6 fragment":     {ipv6Fragment, UDP, "[fd00::1]:1000", false, true},
		"in one fragment":   {ipv6Alone, UDP, "[fd00::1]:1000", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse(fromHex(t, c.packet))
			if err != nil {
				t.Fatal(err)
			}
			later, known := p.LaterFragment()
			if p.Proto() != c.proto || p.Source() != netip.MustParseAddrPort(c.source) || later != c.later || !known || p.Fragment() != c.fragment {
				t.Errorf("protocol %d from %s, later fragment %v, fragment %v", p.Proto(), p.Source(), later, p.Fragment())
			}
		})
	}
}

func TestDefragmentAndBack(t *testing.T) {
	for _, packet := range []string{ipv4Fragment, ipv4Later, ipv6Fragment} {
		p, err := Parse(fromHex(t, packet))
		if err != nil {
			t.Fatal(err)
		}
		p.Defragment()
		if p.Fragment() || p.Defragments() || !p.HasPorts() {
			t.Errorf("%s stays a fragment", packet)
		}
		to := netip.AddrPortFrom(p.Dst().Next(), 8080)
		p.SetDestination(to)
		p.Refragment()
		if !p.Fragment() || p.Dst() != to.Addr() {
			t.Errorf("%s is not the fragment again that it was, to %s", packet, p.Dst())
		}
		if later, _ := p.LaterFragment(); !later && p.Destination() != to {
			t.Errorf("the first fragment goes to %s", p.Destination())
		}
	}
	p, err := Parse(fromHex(t, ipv6Alone))
	if err != nil {
		t.Fatal(err)
	}
	if p.Defragment(); !p.Whole() || p.TransportOffset() != 40 {
		t.Errorf("a packet in one fragment has its transport header at %d, known whole: %v", p.TransportOffset(), p.Whole())
	}
}

func TestParseRefusesWhatEndsWithinAHeader(t *testing.T) {
	whole := fromHex(t, ipv6Headers)
	for n := range len(whole) - 4 {
		if _, err := Parse(whole[:n]); n > 0 && !errors.Is(err, ErrTruncated) {
			t.Errorf("%d bytes give %v", n, err)
		}
	}
}

// FuzzParse holds the reading of packets to: no panic, whatever is done with the packet.
func FuzzParse(f *testing.F) {
	for _, s := range []string{ipv4Fragment, ipv4Later, ipv6Headers, ipv6Fragment, ipv6Alone} {
		f.Add(fromHex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, func() {
			p, err := Parse(b)
			if err != nil {
				return
			}
			p.StopAtAuth()()
			p.SetSource(p.Destination())
			_, _ = p.ICMPID()
			p.TCPFlags()
			q := p.Clone()
			q.Defragment()
			q.SetDestination(netip.AddrPortFrom(q.Dst(), 1))
			q.TCPFlags()
			q.Refragment()
			q.Headers()
		})
	})
}
