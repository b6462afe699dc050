//go:build linux

package ctnl

import (
	"testing"
	"time"

	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

func TestAgeIsKnownWhereTheKernelNotesIt(t *testing.T) {
	const track = "iptables-legacy -A OUTPUT -m conntrack --ctstate NEW"
	for setting, known := range map[string]bool{"0": false, "1": true} {
		r := open(t, track, "sysctl -w net.netfilter.nf_conntrack_timestamp="+setting)
		before := time.Now()
		send(t, "127.0.0.1:4001", "10.96.0.25:53")
		c, _, err := r.Lookup(t.Context(), skb.Tuple{Proto: skb.UDP, Src: netip.MustParseAddrPort("127.0.0.1:4001"), Dst: netip.MustParseAddrPort("10.96.0.25:53")}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if c.Started.IsZero() == known || known && (c.Started.Before(before.Add(-time.Second)) || c.Started.After(time.Now().Add(time.Second))) {
			t.Errorf("nf_conntrack_timestamp %s: started %v, not %v", setting, c.Started, before)
		}
	}
}

func TestZoneOfEachDirectionIsTold(t *testing.T) {
	for option, want := range map[string][2]uint16{"--zone 7": {7, 7}, "--zone-orig 7": {7, 0}, "--zone-reply 7": {0, 7}} {
		r := open(t, "iptables-legacy -t raw -A OUTPUT -p udp -j CT "+option)
		send(t, "127.0.0.1:4001", "10.96.0.25:53")
		var got []*skb.Conn
		if err := r.To(t.Context(), skb.UDP, netip.MustParseAddrPort("10.96.0.25:53"), func() { got = nil }, func(c *skb.Conn) error {
			got = append(got, c)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[0].Zone != want[0] || got[0].ReplyZone != want[1] {
			t.Errorf("%s: %+v", option, got)
		}
	}
}
