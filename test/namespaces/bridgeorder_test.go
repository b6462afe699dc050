//go:build linux

package namespaces

import (
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// TestBridgeChainsAroundTheIPHooks has chains of the bridge family that drop what an IP chain has marked. Whether they see the
// mark depends on which side of br_netfilter they are; at forward those behind it that are of its priority do not run at all.
func TestBridgeChainsAroundTheIPHooks(t *testing.T) {
	chain := func(hook, priority string) []string {
		return []string{
			"nft add table bridge x",
			"nft 'add chain bridge x y { type filter hook " + hook + " priority " + priority + "; }'",
			"nft add rule bridge x y meta mark 7 drop",
		}
	}
	mark := []string{
		"sysctl -qw net.bridge.bridge-nf-call-iptables=1",
		"nft add table ip m",
		"nft 'add chain ip m p { type filter hook prerouting priority -150; }'",
		"nft 'add chain ip m f { type filter hook forward priority -150; }'",
	}
	atPrerouting, atForward := "nft add rule ip m p ip daddr 10.244.1.12 meta mark set 7", "nft add rule ip m f ip daddr 10.244.1.12 meta mark set 7"
	for name, c := range map[string]struct {
		before, after []string // the bridge
		want          string
		derived       bool // whether the order follows from priorities alone
	}{
		"prerouting, registered behind":              {nil, append(chain("prerouting", "0"), atPrerouting), "connected", false},
		"prerouting, registered before":              {chain("prerouting", "0"), []string{atPrerouting}, "silent", false},
		"prerouting, of a lower priority":            {chain("prerouting", "-1"), []string{atPrerouting}, "connected", true},
		"prerouting, of a higher priority":           {nil, append(chain("prerouting", "1"), atPrerouting), "silent", true},
		"forward, registered behind":                 {nil, append(chain("forward", "0"), atForward), "connected", true},
		"forward, registered before":                 {chain("forward", "0"), []string{atForward}, "connected", true},
		"forward, registered before, and left out":   {append(chain("forward", "0"), "nft add rule bridge x y tcp dport 8080 drop"), nil, "connected", false},
		"forward, registered behind, without a mark": {nil, append(chain("forward", "0"), "nft add rule bridge x y tcp dport 8080 drop"), "silent", false},
		"forward, of a lower priority":               {chain("forward", "-2"), []string{atForward}, "connected", true},
		"forward, of the next lower priority":        {chain("forward", "-1"), []string{atForward}, "connected", true},
		"forward, of a higher priority":              {nil, append(chain("forward", "1"), atForward), "silent", true},
		"postrouting, which IP forward is before":    {nil, append(chain("postrouting", "0"), atForward), "silent", true},
	} {
		t.Run(name, func(t *testing.T) {
			n, pod1, pod2 := bridged(t, c.before...)
			pod1.Connects("10.244.1.1:1")
			pod2.Connects("10.244.1.1:1")
			n.Sh(t, append(mark, c.after...)...)
			listed := n.Walk(t, netns.Start("10.244.1.11", "10.244.1.12:8080"))
			derived := n.Walk(t, netns.Start("10.244.1.11", "10.244.1.12:8080"), live.WithoutBPF())
			real := pod1.Connects("10.244.1.12:8080")
			if real != c.want {
				t.Errorf("the real connection: %s, and the case is about %s", real, c.want)
			}
			if got := netns.Fate(t, listed); got != real || listed.Reads.Hooks != trace.HooksListed {
				t.Errorf("the walk says %s, the kernel %s (hooks %s):\n%s", got, real, listed.Reads.Hooks, netns.Says(listed))
			}
			if c.derived {
				if got := netns.Fate(t, derived); got != real {
					t.Errorf("the walk by priorities says %s, the kernel %s:\n%s", got, real, netns.Says(derived))
				}
				return
			}
			for _, o := range derived.Outcomes {
				if o.Verdict != trace.Undetermined || len(o.Unknown) != 1 {
					t.Errorf("the walk by priorities knows what it cannot:\n%s", netns.Says(derived))
				}
			}
		})
	}
}
