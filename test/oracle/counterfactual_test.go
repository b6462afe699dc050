//go:build linux

package oracle

import (
	"context"
	"testing"
)

// TestDecisiveIsWhatTheFateHangsOn counts a rule that drops a packet, and not one behind which another would have.
func TestDecisiveIsWhatTheFateHangsOn(t *testing.T) {
	l := newLab(t)
	l.Short = func(string) bool { return true }
	const packet = "packet ext udp 203.0.113.7:20001 10.244.1.11:53\n"
	for name, c := range map[string]struct {
		rules, construct string
		want             int
	}{
		"legacy":           {"-- iptables-legacy --\n*filter\n-A FORWARD -m dscp ! --dscp 1 -j DROP\nCOMMIT\n", "match dscp", 1},
		"legacy, doubled":  {"-- iptables-legacy --\n*filter\n-A FORWARD -m dscp ! --dscp 1 -j DROP\n-A FORWARD -j DROP\nCOMMIT\n", "match dscp", 0},
		"nft backend":      {"-- iptables-nft --\n*filter\n-A FORWARD -m dscp ! --dscp 1 -j DROP\nCOMMIT\n", "match dscp", 1},
		"nft":              {"-- nft --\nadd table ip t\nadd chain ip t c { type filter hook forward priority 0; }\nadd rule ip t c numgen inc mod 1 0 quota until 1 mbytes drop\n", "nft quota", 1},
		"nft, doubled":     {"-- nft --\nadd table ip t\nadd chain ip t c { type filter hook forward priority 0; }\nadd rule ip t c quota until 1 mbytes drop\nadd rule ip t c drop\n", "nft quota", 0},
		"without effect":   {"-- nft --\nadd table ip t\nadd chain ip t c { type filter hook forward priority 0; }\nadd rule ip t c quota until 1 mbytes meta mark set 1\n", "nft quota", 0},
		"a target goes on": {"-- iptables-legacy --\n*filter\n-A FORWARD -j LOG\nCOMMIT\n", "target LOG", 1},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := ParseCase(name, []byte(packet+c.rules))
			if err != nil {
				t.Fatal(err)
			}
			obs, err := l.Run(context.Background(), k)
			if err != nil {
				t.Fatal(err)
			}
			v := Coverage{}
			for _, o := range obs {
				v.Add(k, o, judge(k, o))
			}
			if v[c.construct] != c.want {
				t.Errorf("%s was decisive %d times, not %d: %v", c.construct, v[c.construct], c.want, v)
			}
		})
	}
}
