//go:build linux

package nft_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

func TestBaseChainsAreFoundAmongMany(t *testing.T) {
	ctx := newNamespace(t)
	var rules strings.Builder
	rules.WriteString("table ip many {\n chain first { type filter hook forward priority 0; }\n")
	for i := range 900 {
		fmt.Fprintf(&rules, " chain c%d { }\n", i)
	}
	rules.WriteString(" chain last { type nat hook postrouting priority 100; }\n}\n")
	rules.WriteString("table inet both { chain b { type filter hook input priority 5; policy drop; }; chain c { }; }\n")
	rules.WriteString("table ip6 other { chain d { type filter hook output priority 0; }; }\n")
	load(t, rules.String())
	e := newEnv(t)
	for f, want := range map[node.NFTFamily][]string{node.NFTIPv4: {"many first", "many last"}, node.NFTInet: {"both b"}, node.NFTIPv6: {"other d"}, node.NFTBridge: nil} {
		objects, err := e.NFTBaseChains(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range objects {
			c, err := nftables.DecodeChain(o)
			if err != nil {
				t.Fatal(err)
			}
			if !c.Base || c.Family != f {
				t.Errorf("%s: %+v is not a base chain of the family", f, c)
			}
			got = append(got, c.Table+" "+c.Name)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", f, d)
		}
	}
}
