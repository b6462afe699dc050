//go:build linux

package live

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// ipvs is /proc/net/ip_vs as the kernel's ip_vs_info_seq_show formats it.
const ipvs = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600019:0050 rr
  -> 0AF4010A:1F90      Masq    1      0          0
UDP  0A60000A:0035 rr persistent 10800 FFFFFFFF
TCP  [fd00:0096:0000:0000:0000:0000:0000:0025]:0050 rr
FWM  00000005 rr
SCTP 0A600019:0000 rr
`

func TestVirtualServersAreFound(t *testing.T) {
	ap := netip.MustParseAddrPort
	for _, c := range []struct {
		proto uint8
		dst   string
		mark  uint32
		want  bool
	}{
		{skb.TCP, "10.96.0.25:80", 0, true}, {skb.TCP, "10.96.0.25:81", 0, false}, {skb.UDP, "10.96.0.25:80", 0, false},
		{skb.UDP, "10.96.0.10:53", 0, true}, {skb.TCP, "[fd00:96::25]:80", 0, true}, {skb.TCP, "10.244.1.10:8080", 0, false},
		{skb.TCP, "10.0.0.1:1", 5, true}, {skb.TCP, "10.0.0.1:1", 6, false}, {skb.SCTP, "10.96.0.25:99", 0, true},
	} {
		got := false
		_, err := parseIPVS(strings.NewReader(ipvs), func(e ipvsEntry) { got = got || e.takes(c.proto, ap(c.dst), c.mark) })
		if err != nil || got != c.want {
			t.Errorf("%s %s mark %d: %v, %v, want %v", skb.ProtoName(c.proto), c.dst, c.mark, got, err, c.want)
		}
	}
	for _, bad := range []string{"TCP 0A60:0050 rr", "TCP 0A600019 rr", "FWM xyz rr", "TCP [fd00]:0050 rr", "-> 0AF4010A Masq 1 0 0"} {
		if _, err := parseIPVS(strings.NewReader(bad), func(ipvsEntry) {}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestRealServersAreFound(t *testing.T) {
	ap := netip.MustParseAddrPort
	table := ipvs + "  -> 0AF4020A:0000      Masq    1      0          0\nTCP  0A600020:0050 rr\n  -> 0AF4030A:1F90      Route   1      0          0\n"
	for _, c := range []struct {
		proto uint8
		src   string
		want  bool
	}{
		{skb.TCP, "10.244.1.10:8080", true}, {skb.TCP, "10.244.1.10:0", true}, {skb.TCP, "10.244.1.10:8081", false}, {skb.UDP, "10.244.1.10:8080", false},
		{skb.SCTP, "10.244.2.10:7", true}, {skb.TCP, "10.96.0.25:80", false}, {skb.TCP, "10.244.3.10:8080", false},
	} {
		got := false
		_, err := parseIPVS(strings.NewReader(table), func(e ipvsEntry) { got = got || e.answersFrom(c.proto, ap(c.src)) })
		if err != nil || got != c.want {
			t.Errorf("%s %s: %v, %v, want %v", skb.ProtoName(c.proto), c.src, got, err, c.want)
		}
	}
}
