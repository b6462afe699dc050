//go:build linux

package hooklist_test

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/hooklist"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/kmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// newNamespace moves the test's thread into a network namespace of its own, which ends with the test.
func newNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
	run(t, "ip link set lo up")
}

// run runs commands, one a line, in the test's namespace.
func run(t *testing.T, commands string) {
	t.Helper()
	for line := range strings.Lines(commands) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if words[0] == "nft" {
			words = []string{"nft", strings.TrimSpace(strings.TrimSpace(line)[len("nft"):])}
		}
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

func newReader(t *testing.T) *hooklist.Reader {
	t.Helper()
	m, err := kmem.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	r, err := hooklist.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// text writes functions down, one a line.
func text(fns []node.HookFunction, indent string) string {
	var b strings.Builder
	for _, f := range fns {
		what := f.Name
		switch f.Kind {
		case node.HookChain:
			what = fmt.Sprintf("chain %s %s %s", f.Family, f.Table, f.Name)
		case node.HookTable:
			what = "table " + f.Name
		case node.HookBPF:
			what = "bpf"
		case node.HookNAT:
			what = "nat " + f.Name
		}
		fmt.Fprintf(&b, "%s%d %s\n%s", indent, f.Priority, what, text(f.Inside, indent+"  "))
	}
	return b.String()
}

// expect compares the functions of some hooks, by number, with what is to be there.
func expect(t *testing.T, f node.NFTFamily, want map[int]string) *hooklist.Reader {
	t.Helper()
	r := newReader(t)
	hooks, err := r.Hooks(f)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]string{}
	for h, fns := range hooks {
		if len(fns) > 0 {
			got[h] = "\n" + text(fns, "")
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", f, d)
	}
	if same, err := r.Same(); err != nil || !same {
		t.Errorf("nothing has changed: %v, %v", same, err)
	}
	return r
}

func TestWhereNothingIsRegisteredTheListsAreEmpty(t *testing.T) {
	newNamespace(t)
	for _, f := range []node.NFTFamily{node.NFTIPv4, node.NFTIPv6, node.NFTBridge} {
		expect(t, f, map[int]string{})
	}
	if _, err := newReader(t).Hooks(node.NFTARP); err == nil {
		t.Error("the hooks of ARP were listed")
	}
}

func TestChainsComeInTheKernelsOrder(t *testing.T) {
	newNamespace(t)
	run(t, `
		nft add table ip a
		nft add table ip b
		nft add table inet x
		nft add table ip6 y
		nft add table ip asleep { flags dormant; }
		nft add chain ip a one { type filter hook forward priority 0; }
		nft add chain ip b two { type filter hook forward priority 0; }
		nft add chain inet x three { type filter hook forward priority 0; }
		nft add chain ip a four { type filter hook forward priority 0; }
		nft add chain ip a early { type filter hook forward priority -5; }
		nft add chain ip6 y five { type filter hook forward priority 0; }
		nft add chain ip a plain
		nft add chain ip asleep never { type filter hook forward priority 0; }
	`)
	expect(t, node.NFTIPv4, map[int]string{2: `
-5 chain ip a early
0 chain ip a four
0 chain inet x three
0 chain ip b two
0 chain ip a one
`})
	expect(t, node.NFTIPv6, map[int]string{2: `
0 chain ip6 y five
0 chain inet x three
`})
	run(t, `nft add table ip asleep`)
	expect(t, node.NFTIPv4, map[int]string{2: `
-5 chain ip a early
0 chain ip asleep never
0 chain ip a four
0 chain inet x three
0 chain ip b two
0 chain ip a one
`})
}

func TestLegacyTablesStandAmongTheChains(t *testing.T) {
	newNamespace(t)
	run(t, `
		nft add table ip a
		nft add chain ip a before { type filter hook output priority 0; }
		iptables-legacy -A OUTPUT -j ACCEPT
		nft add chain ip a after { type filter hook output priority 0; }
		iptables-legacy -t mangle -A OUTPUT -j ACCEPT
		ip6tables-legacy -t raw -A OUTPUT -j ACCEPT
	`)
	filter := "\n-150 table mangle\n0 table filter\n"
	expect(t, node.NFTIPv4, map[int]string{
		0: "\n-150 table mangle\n", 1: filter, 2: filter, 4: "\n-150 table mangle\n",
		3: "\n-150 table mangle\n0 chain ip a after\n0 table filter\n0 chain ip a before\n",
	})
	expect(t, node.NFTIPv6, map[int]string{0: "\n-300 table raw\n", 3: "\n-300 table raw\n"})
}

func TestNATChainsAreInsideTheTranslation(t *testing.T) {
	newNamespace(t)
	run(t, `
		nft add table ip a
		nft add table inet x
		nft add chain ip a one { type nat hook prerouting priority -100; }
		iptables-legacy -t nat -A PREROUTING -p tcp -j DNAT --to 192.0.2.1
		nft add chain inet x two { type nat hook prerouting priority -100; }
		nft add chain ip a early { type nat hook prerouting priority -101; }
		nft add chain ip a tracked { type filter hook prerouting priority -200; }
	`)
	nat := map[int]string{
		0: `
-400 ipv4_conntrack_defrag
-200 chain ip a tracked
-200 ipv4_conntrack_in
-100 nat nf_nat_ipv4_pre_routing
  -101 chain ip a early
  -100 chain inet x two
  -100 table nat
  -100 chain ip a one
`,
		1: `
100 nat nf_nat_ipv4_local_in
  100 table nat
2147483647 nf_confirm
`,
		3: `
-400 ipv4_conntrack_defrag
-200 ipv4_conntrack_local
-100 nat nf_nat_ipv4_local_fn
  -100 table nat
`,
		4: `
100 nat nf_nat_ipv4_out
  100 table nat
2147483647 nf_confirm
`,
	}
	r := newReader(t)
	hooks, err := r.Hooks(node.NFTIPv4)
	if err != nil {
		t.Fatal(err)
	}
	for h, want := range nat {
		if d := cmp.Diff(want, "\n"+text(hooks[h], "")); d != "" {
			t.Errorf("hook %d (-want +got):\n%s", h, d)
		}
	}
	// What changes inside the translation leaves the hook's own list as it is.
	run(t, `nft add chain ip a late { type nat hook prerouting priority -99; }`)
	if same, err := r.Same(); err != nil || same {
		t.Errorf("a nat chain has come: %v, %v", same, err)
	}
}

func TestBridgeChainsAndBridgeNetfilter(t *testing.T) {
	newNamespace(t)
	run(t, `
		nft add table bridge a
		nft add chain bridge a before { type filter hook prerouting priority 0; }
		ip link add br0 type bridge
		nft add chain bridge a after { type filter hook prerouting priority 0; }
		ip link add v0 type veth peer name v1
		nft add table netdev n
		nft add chain netdev n i { type filter hook ingress device v0 priority 0; }
		nft add table inet x
		nft add chain inet x i { type filter hook ingress device v0 priority 0; }
	`)
	expect(t, node.NFTBridge, map[int]string{
		0: "\n0 chain bridge a after\n0 br_nf_pre_routing\n0 chain bridge a before\n",
		1: "\n2147483647 br_nf_local_in\n",
		2: "\n0 br_nf_forward\n",
		4: "\n2147483647 br_nf_post_routing\n",
	})
	expect(t, node.NFTIPv4, map[int]string{0: "\n-2147483648 ip_sabotage_in\n"})
}

func TestDevicesHaveTheirOwnHooks(t *testing.T) {
	newNamespace(t)
	// Two devices whose indexes lie in one list of the kernel's table.
	run(t, `
		ip link add v0 index 40 type veth peer name v1 index 296
		nft add table netdev a
		nft add table netdev b
		nft add table inet x
		nft add chain netdev a one { type filter hook ingress device v0 priority 0; }
		nft add chain netdev b two { type filter hook ingress devices = { v0, v1 } priority 0; }
		nft add chain inet x three { type filter hook ingress device v0 priority 0; }
		nft add chain netdev a out { type filter hook egress device v0 priority 7; }
		nft add table netdev asleep { flags dormant; }
		nft add chain netdev asleep never { type filter hook ingress device v1 priority 0; }
	`)
	r := newReader(t)
	for _, c := range []struct {
		index  int
		egress bool
		want   string
	}{
		{40, false, "0 chain inet x three\n0 chain netdev b two\n0 chain netdev a one\n"},
		{40, true, "7 chain netdev a out\n"},
		{296, false, "0 chain netdev b two\n"},
		{296, true, ""},
		{1, false, ""},
	} {
		fns, err := r.Device(c.index, c.egress)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, text(fns, "")); d != "" {
			t.Errorf("device %d, egress %v (-want +got):\n%s", c.index, c.egress, d)
		}
	}
	if _, err := r.Device(552, false); err == nil {
		t.Error("a device that is not there has hooks")
	}
	if same, err := r.Same(); err != nil || !same {
		t.Errorf("nothing has changed: %v, %v", same, err)
	}
	run(t, "nft add chain netdev b late { type filter hook egress device v1 priority 0; }")
	if same, err := r.Same(); err != nil || same {
		t.Errorf("a chain has come to a device: %v, %v", same, err)
	}
}

func TestBPFLinksAreListed(t *testing.T) {
	newNamespace(t)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Netfilter, AttachType: ebpf.AttachNetfilter, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	run(t, `iptables-legacy -A FORWARD -j ACCEPT`)
	l, err := link.AttachNetfilter(link.NetfilterOptions{Program: p, ProtocolFamily: link.NetfilterProtoIPv4, Hook: link.NetfilterInetForward, Priority: -7})
	if err != nil {
		t.Fatal(err)
	}
	filter := "\n0 table filter\n"
	r := expect(t, node.NFTIPv4, map[int]string{1: filter, 2: "\n-7 bpf\n0 table filter\n", 3: filter})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if same, err := r.Same(); err != nil || same {
		t.Errorf("the link has gone: %v, %v", same, err)
	}
	expect(t, node.NFTIPv4, map[int]string{1: filter, 2: filter, 3: filter})
}

func TestLongNamesAreWhole(t *testing.T) {
	newNamespace(t)
	var want strings.Builder
	for i, n := range []int{126, 127, 128, 129, 200, 255} {
		name := strings.Repeat("n", n-1) + fmt.Sprint(i)
		run(t, fmt.Sprintf("nft add table ip %s\nnft add chain ip %s %s { type filter hook input priority %d; }", name, name, name, i))
		fmt.Fprintf(&want, "%d chain ip %s %s\n", i, name, name)
	}
	expect(t, node.NFTIPv4, map[int]string{1: "\n" + want.String()})
}

func TestManyChains(t *testing.T) {
	newNamespace(t)
	var want strings.Builder
	run(t, "nft add table ip many")
	var rules strings.Builder
	for i := range 100 {
		fmt.Fprintf(&rules, "add chain ip many c%d { type filter hook input priority %d; };", i, i)
		fmt.Fprintf(&want, "%d chain ip many c%d\n", i, i)
	}
	run(t, "nft "+rules.String())
	expect(t, node.NFTIPv4, map[int]string{1: "\n" + want.String()})
}

func TestANamespaceHasItsOwnHooks(t *testing.T) {
	newNamespace(t)
	run(t, "nft add table ip first\nnft add chain ip first c { type filter hook input priority 0; }")
	first, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(first)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	run(t, "nft add table ip second\nnft add chain ip second c { type filter hook input priority 0; }")
	expect(t, node.NFTIPv4, map[int]string{1: "\n0 chain ip second c\n"})
	if err := unix.Setns(first, unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	expect(t, node.NFTIPv4, map[int]string{1: "\n0 chain ip first c\n"})
}

func TestHooksThatTheKernelIsBuiltWithout(t *testing.T) {
	newNamespace(t)
	m, err := kmem.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Layout.HooksBridge, m.Layout.DeviceEgress = bpf.Absent, bpf.Absent
	r, err := hooklist.New(m)
	if err != nil {
		t.Fatal(err)
	}
	if hooks, err := r.Hooks(node.NFTBridge); err != nil || len(hooks) != 5 || len(hooks[0]) != 0 {
		t.Errorf("bridge: %v, %v", hooks, err)
	}
	if fns, err := r.Device(1, true); err != nil || len(fns) != 0 {
		t.Errorf("egress: %v, %v", fns, err)
	}
	m.Layout.DeviceIngress = bpf.Absent
	for _, egress := range []bool{false, true} {
		if _, err := r.Device(1, egress); !errors.Is(err, node.ErrNotSupported) {
			t.Errorf("a kernel of another layout: %v", err)
		}
	}
	m.Layout.EntrySize = 8
	if _, err := hooklist.New(m); !errors.Is(err, hooklist.ErrOdd) {
		t.Errorf("entries of another size: %v", err)
	}
}
