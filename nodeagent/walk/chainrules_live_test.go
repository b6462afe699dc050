//go:build linux

package walk_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// A chain that is too long to be kept is read for the packet that comes to it. Here the packet comes back to it with another
// destination, and has to go on behind the rule that it left by, past rules that were left out before. A real packet goes the
// same way: the rules that it met are those of the walk.
func TestPacketComesBackChangedToALongChain(t *testing.T) {
	namespace(t, "ip link set lo up", "ip address add 10.0.0.1/32 dev lo", "ip address add 10.0.0.2/32 dev lo", "ip address add 10.0.0.3/32 dev lo")
	var rules strings.Builder
	others := func(net int) {
		for i := range 200 {
			fmt.Fprintf(&rules, "ip daddr 10.9.%d.%d counter drop\n", net, i)
		}
	}
	rules.WriteString("table ip t { chain alter { ip daddr 10.0.0.2 counter ip daddr set 10.0.0.3; };\nchain long {\n")
	others(1)
	rules.WriteString("ip daddr 10.0.0.3 counter drop\nip daddr 10.0.0.2 counter jump alter\n")
	others(2)
	rules.WriteString("ip daddr 10.0.0.2 counter drop\nip daddr 10.0.0.3 counter meta mark set 5\n")
	others(3)
	rules.WriteString("}\nchain out { type filter hook output priority -150; counter jump long; }\n}\n")
	load := exec.Command("nft", "-f", "-")
	load.Stdin = strings.NewReader(rules.String())
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := start("10.0.0.1:4000", "10.0.0.2:9")
	s.Proto = skb.UDP
	got := walkHere(t, s)
	walked := map[string]bool{}
	for _, h := range onTheWay(t, got) {
		if h.Rule != nil {
			walked[fmt.Sprint("# handle ", h.Rule.Handle)] = true
		}
	}
	if o := got.Outcomes[0]; o.Verdict == trace.Dropped || o.Destination.String() != "10.0.0.3:9" {
		t.Errorf("%+v", o)
	}
	shell(t, "bash -c echo>/dev/udp/10.0.0.2/9")
	met := 0
	for line := range strings.Lines(shell(t, "nft -a list table ip t")) {
		line = strings.TrimSpace(line)
		rule, handle, ok := strings.Cut(line, "# handle ")
		if !ok || !strings.Contains(rule, "counter") {
			continue
		}
		passed := !strings.Contains(rule, "packets 0 ")
		if passed {
			met++
		}
		if passed != walked["# handle "+handle] {
			t.Errorf("met by the packet: %v, by the walk: %v: %s", passed, walked["# handle "+handle], line)
		}
	}
	if met != 4 {
		t.Errorf("the packet met %d rules, want 4", met)
	}
}
