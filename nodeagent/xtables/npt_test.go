//go:build linux

package xtables_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt/xtlab"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// The translated address is asked bit by bit, by rules behind the target.
func TestPrefixTranslationGivesTheKernelsAddress(t *testing.T) {
	for _, c := range []struct{ from, to, dst string }{
		{"fd00::/64", "2001:db8:1:2::/64", "fd00::1"},
		{"fd00:a:b::/48", "2001:db8:1::/48", "fd00:a:b:c::9"},
		{"fd00::/56", "2001:db8:ffff:ff00::/56", "fd00::ffff:0:0:7"},
		{"fd00::/48", "2001:db8:1:2::/64", "fd00:0:0:5:ffff::7"},
	} {
		t.Run(c.from+" to "+c.to, func(t *testing.T) {
			l := xtlab.New(t)
			l.Run("ip", "-6", "addr", "add", c.dst+"/128", "dev", "lo", "nodad")
			lines := []string{fmt.Sprintf("-A OUTPUT -j DNPT --src-pfx %s --dst-pfx %s", c.from, c.to)}
			for bit := range 128 {
				var b [16]byte
				b[bit/8] = 0x80 >> (bit % 8)
				a := netip.AddrFrom16(b)
				lines = append(lines, fmt.Sprintf("-A OUTPUT -d %s/%s -j MARK --set-xmark 0x0/0x0", a, a))
			}
			l.Restore(skb.IPv6, "mangle", lines...)
			s := sent{"npt", skb.UDP, ap("[::1]:1000"), netip.AddrPortFrom(netip.MustParseAddr(c.dst), 53), 0, 64, 0, true}
			s.send(t)
			var kernel [16]byte
			tab := l.Table(skb.IPv6, "mangle")
			rules := xtlab.Rules(t, tab)
			for bit := range 128 {
				if rules[bit+1].Packets > 0 {
					kernel[bit/8] |= 0x80 >> (bit % 8)
				}
			}
			p := s.describe(t)
			_, err := rule.Enumerate(1, func(ch *rule.Chooser) (xtables.LegacyResult, error) {
				return (&xtables.Evaluator{}).EvalRule(context.Background(), tab, rules[0], p, ch)
			})
			if err != nil || rules[0].Packets != 1 {
				t.Fatalf("%d packets, %v", rules[0].Packets, err)
			}
			if want := netip.AddrFrom16(kernel); p.Dst() != want || want == netip.MustParseAddr(c.dst) {
				t.Errorf("got %s, the kernel made %s", p.Dst(), want)
			}
		})
	}
}
