//go:build linux

package tunnels

import (
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// to is where the first pod connects: the second pod's socket.
const (
	to4 = "10.244.2.5:8080"
	to6 = "[fd00:244:2::5]:8080"
)

// agree walks to the second pod and connects for real. Both must end as the case is about, and the walk must say a word.
func agree(t *testing.T, p netns.Pair, to string, connected bool, word string) netns.Journey {
	t.Helper()
	j := p.Walk(t, to)
	real := p.Pod[0].Connects(to)
	if (real == "connected") != connected {
		t.Errorf("the real connection: %s, and the case is about another", real)
	}
	if j.Connects(to) != (real == "connected") {
		t.Errorf("the walk connects: %v; the real connection: %s\n%s", j.Connects(to), real, j.Says())
	}
	if !strings.Contains(j.Says(), word) {
		t.Errorf("the walk does not say %q:\n%s", word, j.Says())
	}
	return j
}
