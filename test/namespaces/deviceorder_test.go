//go:build linux

package namespaces

import (
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// TestDeviceChainsOfOnePriority has a chain that marks packets, and a chain of another table that drops what is marked, on the
// same device. The one registered last runs first.
func TestDeviceChainsOfOnePriority(t *testing.T) {
	marks := []string{
		"nft add table netdev m",
		"nft 'add chain netdev m c { type filter hook ingress device v1 priority 0; }'",
		"nft add rule netdev m c tcp dport 8080 meta mark set 7",
	}
	drops := []string{
		"nft add table inet d",
		"nft 'add chain inet d c { type filter hook ingress device v1 priority 0; }'",
		"nft add rule inet d c meta mark 7 drop",
	}
	for name, c := range map[string]struct {
		commands []string
		want     string
	}{
		"marked first":  {append(append([]string{}, drops...), marks...), "silent"},
		"dropped first": {append(append([]string{}, marks...), drops...), "connected"},
	} {
		t.Run(name, func(t *testing.T) {
			n, pod1, pod2 := bridged(t)
			pod1.Connects("10.244.1.1:1")
			pod2.Connects("10.244.1.1:1")
			n.Sh(t, c.commands...)
			listed := n.Walk(t, netns.Start("10.244.1.11", "10.244.1.12:8080"))
			derived := n.Walk(t, netns.Start("10.244.1.11", "10.244.1.12:8080"), live.WithoutBPF())
			real := pod1.Connects("10.244.1.12:8080")
			if real != c.want {
				t.Errorf("the real connection: %s, and the case is about %s", real, c.want)
			}
			if got := netns.Fate(t, listed); got != real || listed.Reads.Hooks != trace.HooksListed {
				t.Errorf("the walk says %s, the kernel %s (hooks %s):\n%s", got, real, listed.Reads.Hooks, netns.Says(listed))
			}
			if len(derived.Outcomes) != 2 {
				t.Errorf("without the kernel's lists the walk knows what it cannot:\n%s", netns.Says(derived))
			}
		})
	}
}
