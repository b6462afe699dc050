//go:build linux

package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/chainmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// ruled opens a namespace of the test's own with rules in it, and reads its hooks.
func ruled(t *testing.T, family node.NFTFamily, rules string, command ...string) *Namespace {
	t.Helper()
	runtime.LockOSThread() // for good: the thread and its namespace end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	ns, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	if _, err := ns.Hooks(t.Context(), family); err != nil {
		t.Fatal(err)
	}
	return ns
}

func packetTo(t *testing.T, destination string) *skb.Packet {
	t.Helper()
	to := netip.MustParseAddrPort(destination)
	from := "10.0.0.1:1"
	if to.Addr().Is6() {
		from = "[fd00::1]:1"
	}
	p, err := skb.New(skb.TCP, netip.MustParseAddrPort(from), to)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// compare compares the rules that are left for a packet with those that netlink tells. It returns how many are left, -1 for all.
func compare(t *testing.T, ns *Namespace, family node.NFTFamily, table, chain string, p *skb.Packet) int {
	t.Helper()
	all, err := ns.NFTRules(t.Context(), family, table, chain)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ns.NFTRulesFor(t.Context(), family, table, chain, func(rule []byte) bool { return nftables.Misses(family, rule, p) })
	if err != nil {
		t.Fatal(err)
	}
	if list.Numbers == nil {
		if len(list.Rules) != len(all) {
			t.Errorf("%d rules of %d", len(list.Rules), len(all))
		}
		return -1
	}
	there := map[int]bool{}
	for i, n := range list.Numbers {
		there[n] = true
		if n >= len(all) || !bytes.Equal(withoutPosition(t, list.Rules[i]), withoutPosition(t, all[n])) {
			t.Errorf("rule %d of chain %s is told as\n%x, want\n%x", n, chain, list.Rules[i], all[n])
		}
	}
	for n, rule := range all {
		if !there[n] && !nftables.Misses(family, rule, p) {
			t.Errorf("rule %d of chain %s is left out, which the packet does not miss", n, chain)
		}
	}
	return len(list.Rules)
}

// withoutPosition takes off NFTA_RULE_POSITION, which only a dump has.
func withoutPosition(t *testing.T, rule []byte) (out []byte) {
	t.Helper()
	for len(rule) >= 4 {
		size := (int(rule[0]) | int(rule[1])<<8 + 3) &^ 3
		if size < 4 || size > len(rule) {
			t.Fatalf("a rule ends with %x", rule)
		}
		if rule[2] != unix.NFTA_RULE_POSITION {
			out = append(out, rule[:size]...)
		}
		rule = rule[size:]
	}
	return out
}

func services(n int, address string) string {
	var b strings.Builder
	b.WriteString("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC - [0:0]\n:KUBE-NODEPORTS - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n")
	for i := range n {
		fmt.Fprintf(&b, "-A KUBE-SERVICES -d "+address+" -p %s -m comment --comment \"service %d\" -m %[2]s --dport 80 -j KUBE-SVC\n", i+1, []string{"tcp", "udp"}[i%2], i)
		fmt.Fprintf(&b, "-A KUBE-SVC -m statistic --mode random --probability 0.%03d -j RETURN\n", 1+i%999)
	}
	b.WriteString("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n")
	return b.String()
}

func TestLongChainsAreChosenInMemory(t *testing.T) {
	for name, tc := range map[string]struct {
		family          node.NFTFamily
		address, packet string
		command         string
	}{
		"IPv4": {node.NFTIPv4, "10.9.0.%d/32", "10.9.0.101:80", "iptables-nft-restore"},
		"IPv6": {node.NFTIPv6, "fd00::9:%d/128", "[fd00::9:101]:80", "ip6tables-nft-restore"},
	} {
		t.Run(name, func(t *testing.T) {
			ns := ruled(t, tc.family, services(200, tc.address), tc.command)
			before := *ns.count
			dumped, err := ns.NFTRules(t.Context(), tc.family, "nat", "KUBE-SERVICES")
			if err != nil {
				t.Fatal(err)
			}
			messages, n := ns.count.Messages-before.Messages, len(dumped)
			before = *ns.count
			left, err := ns.longChain(t.Context(), tc.family, "nat", "KUBE-SERVICES", func(rule []byte) bool { return nftables.Misses(tc.family, rule, packetTo(t, tc.packet)) })
			// Each rule has operations of its own, for its comment: they are not looked at.
			if is := ns.count.Messages - before.Messages; err != nil || len(left.Rules) != 2 || messages <= n || is > n/2 {
				t.Errorf("%d rules of %d are left, with %d messages, all come with %d: %v", len(left.Rules), n, is, messages, err)
			}
			// one for the Service, and one for the node ports
			if left := compare(t, ns, tc.family, "nat", "KUBE-SERVICES", packetTo(t, tc.packet)); left != 2 {
				t.Errorf("%d rules are left, want 2", left)
			}
			if ns.memory.rules == nil || ns.memory.rulesErr != nil {
				t.Errorf("kernel memory was not read: %v", ns.memory.rulesErr)
			}
			// It is found by the rule of the Service. All its rules begin with a match of iptables: too many to ask for.
			if left := compare(t, ns, tc.family, "nat", "KUBE-SVC", packetTo(t, tc.packet)); left != -1 {
				t.Errorf("%d rules are left, want all", left)
			}
			if left := compare(t, ns, tc.family, "nat", "PREROUTING", packetTo(t, tc.packet)); left != -1 {
				t.Errorf("%d rules of a short chain are left, want all", left)
			}
			if ns.memory.rulesErr != nil {
				t.Errorf("memory is not read any more: %v", ns.memory.rulesErr)
			}
		})
	}
}

func TestLongChainBehindALongOne(t *testing.T) {
	var b strings.Builder
	b.WriteString("table inet t {\n")
	for _, c := range []string{"third", "second", "first"} {
		hook, next := "", ""
		switch c {
		case "first":
			hook, next = "type filter hook input priority 0;", "jump second"
		case "second":
			next = "goto third"
		}
		fmt.Fprintf(&b, "chain %s { %s\n", c, hook)
		for i := range 900 {
			verdict := "accept"
			if i == 700 {
				verdict = next
			}
			fmt.Fprintf(&b, "ip daddr 10.7.%d.%d %s\n", i>>8, i&255, verdict)
		}
		b.WriteString("}\n")
	}
	ns := ruled(t, node.NFTIPv4, b.String()+"}", "nft", "-f", "-")
	p := packetTo(t, "10.7.2.188:80")
	for _, c := range []string{"first", "second", "third"} {
		if left := compare(t, ns, node.NFTInet, "t", c, p); left != 1 {
			t.Errorf("chain %s: %d rules are left, want 1", c, left)
		}
	}
	if left := compare(t, ns, node.NFTInet, "t", "third", packetTo(t, "10.8.0.1:80")); left != 0 {
		t.Errorf("%d rules are left, want none", left)
	}
}

// TestLongChainThatCannotBeChosen reads chains whose rules memory does not tell well enough: they come by netlink.
func TestLongChainThatCannotBeChosen(t *testing.T) {
	var b strings.Builder
	b.WriteString("table ip t { chain mapped { \n")
	for i := range 300 {
		fmt.Fprintf(&b, "ip daddr 10.7.0.%d accept\n", i&255)
	}
	b.WriteString("}; chain first { type filter hook input priority 0; ip daddr vmap { 10.7.0.1 : jump mapped }\n")
	for i := range 299 {
		fmt.Fprintf(&b, "ip daddr 10.7.0.%d accept\n", i&255)
	}
	b.WriteString("}; }")
	ns := ruled(t, node.NFTIPv4, b.String(), "nft", "-f", "-")
	if _, err := ns.longChain(t.Context(), node.NFTIPv4, "t", "mapped", func([]byte) bool { return true }); !errors.Is(err, chainmem.ErrFar) {
		t.Errorf("a chain that only a map leads to: %v", err)
	}
	// netlink leaves out what is behind the first 128
	if left := compare(t, ns, node.NFTIPv4, "t", "mapped", packetTo(t, "10.7.0.1:80")); left != 128+1 {
		t.Errorf("%d rules are left", left)
	}
	for _, tc := range []struct{ missed, left int }{{290, 10}, {250, 50}, {0, 300}} {
		n := 0
		list, err := ns.longChain(t.Context(), node.NFTIPv4, "t", "first", func([]byte) bool { n++; return n <= tc.missed || n > 300 })
		if many := tc.left > 16; errors.Is(err, errMany) != many || !many && (err != nil || len(list.Rules) != tc.left) {
			t.Errorf("%d rules are missed: %d are left, %v", tc.missed, len(list.Rules), err)
		}
	}
	if _, err := ns.NFTRulesFor(t.Context(), node.NFTIPv4, "t", "absent", func([]byte) bool { return true }); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("a chain that is not there: %v", err)
	}
}

// TestMemoryThatNetlinkContradicts asks the kernel for another chain's rules: what memory tells of them is not what the kernel
// does.
func TestMemoryThatNetlinkContradicts(t *testing.T) {
	var b strings.Builder
	b.WriteString("table ip t { chain first { type filter hook input priority 0; \n")
	for i := range 300 {
		fmt.Fprintf(&b, "ip daddr 10.7.0.%d accept\n", i&255)
	}
	ns := ruled(t, node.NFTIPv4, b.String()+"}; }", "nft", "-f", "-")
	list, err := ns.longChain(t.Context(), node.NFTIPv4, "t", "first", func([]byte) bool { return true })
	if err != nil || len(list.Rules) != 0 || list.Numbers == nil {
		t.Fatalf("%d rules, %v", len(list.Rules), err)
	}
	// Memory says that this rule is missed, and the rule that the kernel tells is not.
	asked := 0
	if _, err := ns.longChain(t.Context(), node.NFTIPv4, "t", "first", func([]byte) bool { asked++; return asked <= 300 }); !errors.Is(err, chainmem.ErrOdd) {
		t.Errorf("another answer: %v", err)
	}
	if _, err := ns.askRule(t.Context(), node.NFTIPv4, "t", "first", asked1(t, ns)); !errors.Is(err, chainmem.ErrOdd) {
		t.Errorf("another beginning: %v", err)
	}
	if ns.memory.rulesErr == nil {
		t.Error("memory is read further though it was wrong")
	}
	if left := compare(t, ns, node.NFTIPv4, "t", "first", packetTo(t, "10.7.0.1:80")); left != 128+1 {
		t.Errorf("%d rules are left", left)
	}
}

// asked1 is a rule of the chain with the beginning of another.
func asked1(t *testing.T, ns *Namespace) (a asked) {
	t.Helper()
	m, err := ns.memory.openRules()
	if err != nil {
		t.Fatal(err)
	}
	at, err := m.Find(ns.hooks.Network(), ns.hooks.Chains(node.NFTIPv4, "t"), "first")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Rules(ns.hooks.Network(), at, func(r chainmem.Rule) error {
		switch r.Number {
		case 0:
			a.handle = r.Handle
		case 1:
			a.message = bytes.Clone(r.Message)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLongChainWithoutBPF(t *testing.T) {
	ns := ruled(t, node.NFTIPv4, services(200, "10.9.0.%d/32"), "iptables-nft-restore")
	other, err := Open(WithoutBPF())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p := packetTo(t, "10.9.0.181:80")
	with, err := ns.NFTRulesFor(context.Background(), node.NFTIPv4, "nat", "KUBE-SERVICES", func(rule []byte) bool { return nftables.Misses(node.NFTIPv4, rule, p) })
	if err != nil {
		t.Fatal(err)
	}
	without, err := other.NFTRulesFor(context.Background(), node.NFTIPv4, "nat", "KUBE-SERVICES", func(rule []byte) bool { return nftables.Misses(node.NFTIPv4, rule, p) })
	if err != nil {
		t.Fatal(err)
	}
	if len(with.Rules) != 2 || len(without.Rules) != 128+2 || !bytes.Equal(with.Rules[0], without.Rules[128]) && !bytes.Equal(withoutPosition(t, with.Rules[0]), withoutPosition(t, without.Rules[128])) {
		t.Errorf("%d rules with BPF, %d without", len(with.Rules), len(without.Rules))
	}
	if other.memory.reader != nil {
		t.Error("kernel memory was read")
	}
}
