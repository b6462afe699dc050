// Package coverage holds docs/coverage.md against the code: the page is made from the tables that the evaluators carry.
package coverage

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

var update = flag.Bool("update", false, "rewrite docs/coverage.md")

const page = "../../docs/coverage.md"

func TestThePageIsMadeFromTheCode(t *testing.T) {
	want := text()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("docs/coverage.md is not as the code has it (go test ./test/coverage -update):\n%s", d)
	}
}

func text() string {
	var b strings.Builder
	b.WriteString(`# What the engine models

Made from the code by ` + "`go test ./test/coverage -update`" + `. **yes**: evaluated as the kernel does. **depends**: the state that can be
read does not settle it (a rate, a payload, the time), and the walk forks on a condition that is named. **unknown**: not
modelled; the walk forks and both ways say so. A packet that is described by addresses and ports alone has no known TTL,
length, options or payload: what asks for these depends.

Whatever is not in these tables is unknown too. Kernel hooks outside netfilter (XDP, tc, tcx; programs of control groups over the
agent, which sockets meet) are recognised and unknown. Of
queueing disciplines the one at an interface's root is looked at: those that only queue let a packet pass, blackhole and noop drop
it, all others (netem among them) are unknown. IPsec's policies are applied where the kernel applies them: one that blocks, or a
direction whose default is to block, drops; what a transformation makes of a packet is unknown.

## nftables expressions

| expression | modelled | |
| --- | --- | --- |
`)
	for _, e := range nftables.Expressions() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", e.Name, e.Modelled, e.Note)
	}
	b.WriteString("\n## iptables extensions\n\nFor legacy iptables and iptables-nft alike. Held against what Debian's iptables ships by a test of `nodeagent/xtables`.\n")
	for _, kind := range []xtables.Kind{xtables.Match, xtables.Target} {
		fmt.Fprintf(&b, "\n| %s | family | revisions | modelled | |\n| --- | --- | --- | --- | --- |\n", kind)
		for _, x := range xtables.Extensions() {
			if x.Kind != kind {
				continue
			}
			family := "both"
			if x.Family != 0 {
				family = x.Family.String()
			}
			revisions := strings.Trim(strings.ReplaceAll(fmt.Sprint(x.Revisions), " ", ", "), "[]")
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", x.Name, family, revisions, x.Modelled, x.Note)
		}
	}
	return b.String()
}
