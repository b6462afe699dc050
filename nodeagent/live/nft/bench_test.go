//go:build linux

package nft_test

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nft"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"

	"net/netip"
)

// BenchmarkLongChain reads, decodes and evaluates a chain of 2,000 rules such as iptables-nft's KUBE-SERVICES, none of which
// matches.
func BenchmarkLongChain(b *testing.B) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC - [0:0]\n")
	for i := range 2000 {
		fmt.Fprintf(&script, "-A KUBE-SERVICES -d 10.96.%d.%d/32 -p tcp -m comment --comment \"ns/svc%d:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC\n", i>>8, i&255, i)
	}
	script.WriteString("COMMIT\n")
	cmd := exec.Command("iptables-nft-restore")
	cmd.Stdin = strings.NewReader(script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	r, err := nft.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	ev := &nftables.Evaluator{Env: &env{Reader: r}, Compat: extensions{&xtables.Evaluator{}}}
	p, err := skb.New(skb.TCP, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:80"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		list, err := r.NFTRules(b.Context(), node.NFTIPv4, "nat", "KUBE-SERVICES")
		if err != nil || len(list) != 2000 {
			b.Fatal(len(list), err)
		}
		for _, raw := range list {
			d, err := nftables.DecodeRule(node.NFTIPv4, "nat", "KUBE-SERVICES", raw)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := rule.Enumerate(4, func(ch *rule.Chooser) (rule.Result, error) { return ev.Eval(b.Context(), d, p, ch) }); err != nil {
				b.Fatal(err)
			}
		}
	}
}
