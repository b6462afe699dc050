//go:build linux

package chainmem

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/hooklist"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/kmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nft"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// newNamespace moves the test's thread into a network namespace of its own, which ends with the test.
func newNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
}

func load(t *testing.T, input string, command ...string) {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

// known is a reader, with where it reads.
type known struct {
	*Reader
	hooks *hooklist.Reader
	nft   *nft.Reader
}

func newReader(t *testing.T) *known {
	t.Helper()
	m, err := kmem.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	h, err := hooklist.New(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []node.NFTFamily{node.NFTIPv4, node.NFTIPv6} {
		if _, err := h.Hooks(f); err != nil {
			t.Fatal(err)
		}
	}
	r, err := New(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	n, err := nft.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return &known{r, h, n}
}

// chain is the address of a chain.
func (k *known) chain(t *testing.T, f node.NFTFamily, table, chain string) uint64 {
	t.Helper()
	at, err := k.Find(k.hooks.Network(), k.hooks.Chains(f, table), chain)
	if err != nil {
		t.Fatalf("chain %s of table %s %s: %v", chain, f, table, err)
	}
	return at
}

// comparisons are rules that begin with loads and comparisons of all kinds.
func comparisons(v4 bool) []string {
	address, network := "ip saddr", "10.0.0."
	if !v4 {
		address, network = "ip6 saddr", "fd00::"
	}
	var out []string
	for i := range 200 {
		out = append(out,
			fmt.Sprintf("%s %s%d accept", address, network, i),
			fmt.Sprintf("%s != %s%d tcp dport %d", address, network, i, i),
			fmt.Sprintf("meta l4proto udp %s %s%d udp sport > %d counter", address, network, i, i),
			fmt.Sprintf("meta mark %d counter", i<<(i%24)),
			fmt.Sprintf("meta mark != %d meta iif 1 accept", i),
			fmt.Sprintf("meta iifname \"veth%d\" tcp flags syn accept", i),
			fmt.Sprintf("th dport < %d th sport >= %d drop", i+1, i),
			fmt.Sprintf("@nh,8,8 %d @th,%d,16 %d accept", i, 8*i, 3*i),
			fmt.Sprintf("@ll,0,48 %d accept", i+1),
			fmt.Sprintf("meta length %d-%d accept", i, i+10),
			fmt.Sprintf("%s { %s1, %s%d } drop", address, network, network, i+2),
			fmt.Sprintf("meta mark set %d", i),
			"counter")
	}
	return out
}

// iptables are rules as kube-proxy makes them, and others, with an address, a network of a byte's length and one of any.
func iptables(address, network, any string) string {
	var b strings.Builder
	b.WriteString("*nat\n:X - [0:0]\n-A PREROUTING -j X\n")
	for i := range 250 {
		fmt.Fprintf(&b, "-A X -d "+address+" -p tcp -m comment --comment \"number %d\" -m tcp --dport 80 -j RETURN\n", i, i)
		fmt.Fprintf(&b, "-A X ! -d "+network+" -i veth%d -j RETURN\n", i, i)
		fmt.Fprintf(&b, "-A X -s "+any+" -j RETURN\n", 1+i%32)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// TestRulesAreWrittenDownAsTheKernelDoes compares with what the kernel tells of the same chains by netlink.
func TestRulesAreWrittenDownAsTheKernelDoes(t *testing.T) {
	newNamespace(t)
	var script strings.Builder
	for _, family := range []string{"ip", "ip6", "inet"} {
		fmt.Fprintf(&script, "table %s t { chain empty { }; chain long { \n", family)
		for _, v4 := range []bool{true, false} {
			if family == "ip" && !v4 || family == "ip6" && v4 {
				continue
			}
			script.WriteString(strings.Join(comparisons(v4), "\n") + "\n")
		}
		script.WriteString("}; chain first { type filter hook input priority 0; jump empty; goto long; }; }\n")
	}
	load(t, script.String(), "nft", "-f", "-")
	load(t, iptables("10.9.0.%d/32", "10.9.%d.0/24", "10.0.0.0/%d"), "iptables-nft-restore")
	load(t, iptables("fd00::%d/128", "fd00:%d::/64", "fd00::/%d"), "ip6tables-nft-restore")

	r := newReader(t)
	for _, c := range []struct {
		family      node.NFTFamily
		table, name string
		least       int // leading expressions
	}{
		{node.NFTIPv4, "t", "long", 5000}, {node.NFTIPv6, "t", "long", 5000}, {node.NFTInet, "t", "long", 10000},
		{node.NFTIPv4, "t", "empty", 0}, {node.NFTIPv4, "t", "first", 0},
		{node.NFTIPv4, "nat", "X", 2000}, {node.NFTIPv6, "nat", "X", 2000},
	} {
		want, err := r.nft.NFTRules(t.Context(), c.family, c.table, c.name)
		if err != nil {
			t.Fatal(err)
		}
		all, n := 0, 0
		if err := r.Rules(r.hooks.Network(), r.chain(t, c.family, c.table, c.name), func(rule Rule) error {
			if rule.Number != n || n >= len(want) {
				t.Fatalf("rule %d comes where rule %d of %d should", rule.Number, n, len(want))
			}
			raw := want[n]
			n++
			if !Begins(raw, rule.Message) {
				t.Errorf("%s %s: rule %d is told as\n%x, but is\n%x", c.family, c.name, rule.Number, rule.Message, raw)
			}
			if h := handle(t, raw); h != rule.Handle {
				t.Errorf("%s %s: rule %d has handle %d, want %d", c.family, c.name, rule.Number, rule.Handle, h)
			}
			is, all1 := len(names(t, rule.Message)), leadingOf(names(t, raw))
			if is != all1 || len(rule.Shape) != 8*is {
				t.Errorf("%s %s: %d expressions of rule %d are told, want %d of %v", c.family, c.name, is, rule.Number, all1, names(t, raw))
			}
			all += is
			return nil
		}); err != nil {
			t.Fatalf("%s %s: %v", c.family, c.name, err)
		}
		if n != len(want) || all < c.least {
			t.Errorf("%s %s: %d rules with %d expressions, want %d with %d or more", c.family, c.name, n, all, len(want), c.least)
		}
	}
}

// names are those of a rule's expressions.
func names(t *testing.T, rule []byte) (out []string) {
	t.Helper()
	each := func(b []byte, f func(typ uint16, payload []byte)) {
		if err := nlattr.Each(b, func(typ uint16, payload []byte) error { f(typ, payload); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	each(rule, func(typ uint16, list []byte) {
		if typ != unix.NFTA_RULE_EXPRESSIONS {
			return
		}
		each(list, func(_ uint16, x []byte) {
			name := ""
			each(x, func(typ uint16, b []byte) {
				switch typ {
				case unix.NFTA_EXPR_NAME:
					name = nlattr.Text(b)
				case unix.NFTA_EXPR_DATA:
					each(b, func(typ uint16, _ []byte) {
						if name == "meta" && typ == unix.NFTA_META_SREG {
							name = "meta set"
						}
					})
				}
			})
			out = append(out, name)
		})
	})
	return out
}

// leadingOf counts loads and comparisons at the beginning.
func leadingOf(names []string) int {
	n := slices.IndexFunc(names, func(s string) bool { return s != "payload" && s != "meta" && s != "cmp" })
	if n < 0 {
		return len(names)
	}
	return n
}

func handle(t *testing.T, rule []byte) (h uint64) {
	t.Helper()
	if err := nlattr.Each(rule, func(typ uint16, b []byte) error {
		if typ == unix.NFTA_RULE_HANDLE {
			for _, x := range b {
				h = h<<8 | uint64(x)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestAnotherLayoutIsNoticed has the reader believe that members are where they are not.
func TestAnotherLayoutIsNoticed(t *testing.T) {
	newNamespace(t)
	load(t, "table ip t { chain c { type filter hook input priority 0; ip saddr 10.0.0.1 ip protocol 6 accept; meta mark != 0x7000001 accept; th dport > 80 accept; }; }", "nft", "-f", "-")
	for name, spoil := range map[string]func(*layout){
		"payload.base":   func(l *layout) { l.payloadBase.right-- },
		"payload.offset": func(l *layout) { l.payloadOffset.at++ },
		"payload.len":    func(l *layout) { l.payloadLength = l.payloadOffset.at },
		"payload.dreg":   func(l *layout) { l.payloadRegister = l.payloadOffset.at },
		"meta.key":       func(l *layout) { l.metaKey.at++ },
		"meta.dreg":      func(l *layout) { l.metaRegister = l.metaKey.at },
		"cmp.op":         func(l *layout) { l.cmpOp.at = 0 },
		"cmp.data":       func(l *layout) { l.cmpData++ },
		"cmp.len":        func(l *layout) { l.cmpBytes++ },
		"fast.data":      func(l *layout) { l.fast.data++ },
		"fast.len":       func(l *layout) { l.fast.length-- },
		"fast.inv":       func(l *layout) { l.fast.inverted = l.fast.length },
	} {
		r := newReader(t)
		rules, err := r.nft.NFTRules(t.Context(), node.NFTIPv4, "t", "c")
		if err != nil {
			t.Fatal(err)
		}
		at := r.chain(t, node.NFTIPv4, "t", "c")
		begin := func() (all bool) {
			all = true
			if err := r.Rules(r.hooks.Network(), at, func(rule Rule) error {
				all = all && Begins(rules[rule.Number], rule.Message)
				return nil
			}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return all
		}
		if !begin() {
			t.Errorf("before %s is spoiled rules begin otherwise already", name)
		}
		spoil(&r.layout)
		if begin() {
			t.Errorf("that %s is elsewhere was not noticed", name)
		}
	}
}

func TestChainsAreFoundWhereOthersLead(t *testing.T) {
	newNamespace(t)
	var far strings.Builder
	for range 2 * maxLooked {
		far.WriteString("counter;")
	}
	load(t, `table ip t {
		chain d { }; chain c { goto d; }; chain b { jump c; }; chain a { counter; ip saddr 10.0.0.1 jump b; accept; };
		chain mapped { }; chain unused { }; chain behind { };
		chain first { type filter hook input priority 0; jump a; tcp dport vmap { 1 : jump mapped }; `+far.String()+` jump behind; };
	}
	table ip other { chain e { }; chain first { type filter hook input priority 1; jump e; }; }`, "nft", "-f", "-")
	r := newReader(t)
	from := r.hooks.Chains(node.NFTIPv4, "t")
	if len(from) != 1 {
		t.Fatalf("chains at hooks: %x", from)
	}
	for _, name := range []string{"first", "a", "b", "c", "d"} {
		at, err := r.Find(r.hooks.Network(), from, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if is, err := r.text(at + uint64(r.name)); err != nil || is != name {
			t.Errorf("found %q for %q, %v", is, name, err)
		}
	}
	for _, name := range []string{"mapped", "unused", "behind", "e", ""} {
		if at, err := r.Find(r.hooks.Network(), from, name); !errors.Is(err, ErrFar) {
			t.Errorf("%s: found %#x, %v", name, at, err)
		}
	}
}

// TestSearchIsBounded looks for what is not there among more chains than are looked at.
func TestSearchIsBounded(t *testing.T) {
	newNamespace(t)
	var chains, jumps strings.Builder
	for i := range 20 {
		fmt.Fprintf(&chains, "chain c%d { %s }\n", i, strings.Repeat("counter; ", 100))
		fmt.Fprintf(&jumps, "jump c%d; ", i)
	}
	load(t, "table ip t { "+chains.String()+"chain last { }\nchain first { type filter hook input priority 0; "+jumps.String()+"jump last; }; }", "nft", "-f", "-")
	r := newReader(t)
	count := &nlsock.Counter{}
	r.count = count
	if at, err := r.Find(r.hooks.Network(), r.hooks.Chains(node.NFTIPv4, "t"), "absent"); !errors.Is(err, ErrFar) {
		t.Errorf("found %#x, %v", at, err)
	}
	if read := maxRules/100 + 2; count.Messages > read {
		t.Errorf("%d chains were read, want %d or fewer", count.Messages, read)
	}
	if _, err := r.Find(r.hooks.Network(), r.hooks.Chains(node.NFTIPv4, "t"), "last"); err != nil {
		t.Errorf("one that is found at once: %v", err)
	}
}

// TestWhatIsNoChain reads from addresses where none is.
func TestWhatIsNoChain(t *testing.T) {
	newNamespace(t)
	load(t, "table ip t { chain c { type filter hook input priority 0; ip saddr 10.0.0.1 accept; }; }", "nft", "-f", "-")
	r := newReader(t)
	net, at := r.hooks.Network(), r.chain(t, node.NFTIPv4, "t", "c")
	nothing := func(Rule) error { return nil }
	for _, wrong := range []uint64{0, 1, 4096, at + 1, at + 4, ^uint64(0) - 64, net} {
		if err := r.Rules(net, wrong, nothing); !errors.Is(err, ErrOdd) {
			t.Errorf("a chain at %#x: %v", wrong, err)
		}
	}
	blob, err := r.blob(net, at)
	if err != nil {
		t.Fatal(err)
	}
	for off := uint64(1); off < 64; off++ {
		n := 0
		err := r.rules(blob+off, func(_ int, _ uint64, data []byte) error {
			if n++; n > 100000 {
				return errEnough
			}
			_, _, err := r.leading(data)
			return err
		})
		if err == nil && n > 0 {
			t.Logf("%d bytes behind the beginning %d rules are seen", off, n)
		}
	}
	if err := r.Rules(net, at, nothing); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
