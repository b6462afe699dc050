package walk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// listed is a namespace with hooks and chains alone. Each chain has one rule that nothing matches, so that it has a place.
type listed struct {
	node.Namespace
	hooks   map[node.NFTFamily][][]node.HookFunction
	err     error
	chains  map[string]node.NFTObject
	changed bool
	virtual bool
	// device are the functions at the hooks of every device, unless deviceErr says that they are not listed.
	device    []node.HookFunction
	deviceErr error
	// asked are the chains whose rules were read, in order.
	asked []string
}

func (n *listed) Hooks(_ context.Context, f node.NFTFamily) ([][]node.HookFunction, error) {
	return n.hooks[f], n.err
}

func (n *listed) DeviceHooks(context.Context, int, bool) ([]node.HookFunction, error) {
	return n.device, n.deviceErr
}

func (n *listed) Links(context.Context) ([]node.Link, error) {
	return []node.Link{{Name: "eth0", Index: 2}}, nil
}

func (n *listed) DevicePrograms(context.Context, int, bool) ([]string, error) { return nil, nil }

func (n *listed) SameHooks(context.Context) (bool, error) { return !n.changed, nil }

func (n *listed) NFTGeneration(context.Context) (uint32, error) { return 1, nil }

func (n *listed) LegacyTables(context.Context, skb.Family) ([]string, error) { return nil, nil }

func (n *listed) NFTTables(context.Context) ([]node.NFTObject, error) {
	name := attribute(1, []byte("t\x00"))
	return []node.NFTObject{{Family: node.NFTIPv4, Attrs: name}}, nil
}

func (n *listed) NFTBaseChains(context.Context, node.NFTFamily) ([]node.NFTObject, error) {
	var out []node.NFTObject
	for _, name := range []string{"a", "b"} {
		if c, ok := n.chains[name]; ok {
			out = append(out, c)
		}
	}
	return out, nil
}

func (n *listed) NFTChain(_ context.Context, _ node.NFTFamily, _, chain string) (node.NFTObject, error) {
	if c, ok := n.chains[chain]; ok {
		return c, nil
	}
	return node.NFTObject{}, node.ErrNotFound
}

func (n *listed) NFTRules(_ context.Context, _ node.NFTFamily, _, chain string) ([][]byte, error) {
	n.asked = append(n.asked, chain)
	return nil, nil
}

func (n *listed) NFTRulesFor(ctx context.Context, f node.NFTFamily, table, chain string, _ func([]byte) bool) (node.NFTRules, error) {
	rules, err := n.NFTRules(ctx, f, table, chain)
	return node.NFTRules{Rules: rules}, err
}

func (n *listed) NFTObjects(context.Context) ([]node.NFTObject, error) { return nil, nil }
func (n *listed) NFTChains(context.Context) ([]node.NFTObject, error)  { return nil, nil }

func (n *listed) VirtualServer(context.Context, uint8, netip.AddrPort, uint32) (bool, error) {
	return n.virtual, nil
}

func (n *listed) RealServer(context.Context, uint8, netip.AddrPort) (bool, error) {
	return n.virtual, nil
}

func attribute(typ uint16, data []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, typ), data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// chain is what nftables says of a base chain of table t.
func chain(name, typ string, hook skb.Hook, priority int32) node.NFTObject {
	u32 := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
	attrs := append(attribute(1, []byte("t\x00")), attribute(3, append([]byte(name), 0))...)
	attrs = append(attrs, attribute(4, append(attribute(1, u32(uint32(hook))), attribute(2, u32(uint32(priority)))...))...)
	return node.NFTObject{Family: node.NFTIPv4, Attrs: append(attrs, attribute(7, append([]byte(typ), 0))...)}
}

func hookChain(name string, priority int32) node.HookFunction {
	return node.HookFunction{Kind: node.HookChain, Family: node.NFTIPv4, Table: "t", Name: name, Priority: priority}
}

func hookFunction(name string, priority int32) node.HookFunction {
	return node.HookFunction{Name: name, Family: node.NFTIPv4, Priority: priority}
}

// passListed passes a packet through a hook where the kernel has some functions. It returns what ran, and the trace of the
// ends there were.
func passListed(t *testing.T, n *listed, h skb.Hook, fns ...node.HookFunction) (*walk, []end) {
	t.Helper()
	n.hooks = map[node.NFTFamily][][]node.HookFunction{node.NFTIPv4: make([][]node.HookFunction, 5)}
	n.hooks[node.NFTIPv4][h] = fns
	j := &journey{ctx: context.Background(), trace: trace.New(trace.Packet{}), hopIndex: map[hopKey]int{}, places: map[string]*walk{}}
	j.start.Destination = netip.MustParseAddrPort("10.0.0.2:2")
	j.node = single{n}
	w, err := j.place(node.Home)
	if err != nil {
		t.Fatal(err)
	}
	p, err := skb.New(skb.TCP, netip.MustParseAddrPort("10.0.0.1:1"), j.start.Destination)
	if err != nil {
		t.Fatal(err)
	}
	w.pass(&branch{p: p, prob: big.NewRat(1, 1)}, h, func(b *branch) { w.end(b, end{verdict: trace.Local}) })
	if j.err != nil {
		t.Fatal(j.err)
	}
	return w, j.ends
}

// single is a node of one namespace.
type single struct{ ns node.Namespace }

func (s single) Namespace(context.Context, string) (node.Namespace, string, error) {
	return s.ns, "host", nil
}
func (single) Peer(context.Context, string, node.Link) (string, string, error) {
	return "", "", node.ErrNotFound
}
func (single) Serves(string, uint64) string { return "" }

func TestTheKernelsListDecidesTheOrder(t *testing.T) {
	n := &listed{chains: map[string]node.NFTObject{"a": chain("a", "filter", skb.Forward, 0), "b": chain("b", "filter", skb.Forward, 0)}}
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		n.asked = nil
		w, _ := passListed(t, n, skb.Forward, hookChain(order[0], 0), hookChain(order[1], 0))
		if d := cmp.Diff(order, n.asked); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
		if got := w.hookSource(); got != trace.HooksListed {
			t.Errorf("the hooks are %q", got)
		}
	}
}

func TestAListThatNftablesDoesNotConfirmIsNotUsed(t *testing.T) {
	for name, c := range map[string]struct {
		says node.NFTObject
		is   node.HookFunction
	}{
		"another priority": {chain("a", "filter", skb.Forward, 1), hookChain("a", 0)},
		"another hook":     {chain("a", "filter", skb.Input, 0), hookChain("a", 0)},
		"a nat chain":      {chain("a", "nat", skb.Forward, 0), hookChain("a", 0)},
		"no such chain":    {chain("a", "filter", skb.Forward, 0), hookChain("gone", 0)},
		"no such table":    {chain("a", "filter", skb.Forward, 0), node.HookFunction{Kind: node.HookTable, Name: "filter"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, ends := passListed(t, &listed{chains: map[string]node.NFTObject{"a": c.says}}, skb.Forward, c.is)
			if got := w.hookSource(); got != trace.HooksDerived || len(ends) != 1 {
				t.Errorf("the hooks are %q, with %d ends", got, len(ends))
			}
		})
	}
}

func TestWithoutAListHooksAreDerived(t *testing.T) {
	n := &listed{err: fmt.Errorf("no BPF: %w", node.ErrPermission), chains: map[string]node.NFTObject{"a": chain("a", "filter", skb.Forward, 0)}}
	w, ends := passListed(t, n, skb.Forward)
	if got := w.hookSource(); got != trace.HooksDerived || len(ends) != 1 {
		t.Errorf("the hooks are %q, with %d ends", got, len(ends))
	}
	n.err = context.Canceled
	if _, _, err := w.listing(node.NFTIPv4); err != nil {
		t.Errorf("derived hooks were asked for again: %v", err)
	}
	w.unlisted = false
	if _, _, err := w.listing(node.NFTIPv4); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled walk went on: %v", err)
	}
}

func TestFunctionsAtAHook(t *testing.T) {
	for name, c := range map[string]struct {
		hook    skb.Hook
		fn      node.HookFunction
		unknown string
	}{
		"reassembly":             {skb.Prerouting, hookFunction("ipv4_conntrack_defrag [nf_defrag_ipv4]", -400), ""},
		"confirming":             {skb.Input, hookFunction("nf_confirm", 1<<31-1), ""},
		"a security module":      {skb.Postrouting, hookFunction("selinux_ip_postroute", 225), ""},
		"IPVS for replies":       {skb.Forward, hookFunction("ip_vs_out_hook [ip_vs]", 100), "IPVS connections of its real server 10.0.0.1:1"},
		"IPVS' ICMP errors":      {skb.Forward, hookFunction("ip_vs_forward_icmp [ip_vs]", 99), ""},
		"IPVS for a service":     {skb.Input, hookFunction("ip_vs_in_hook [ip_vs]", 99), "IPVS virtual server 10.0.0.2:2"},
		"IPVS before Linux 5.14": {skb.Output, hookFunction("ip_vs_local_request4 [ip_vs]", -98), "IPVS virtual server 10.0.0.2:2"},
		"one not known":          {skb.Forward, hookFunction("drop_things [own]", 3), "hook function drop_things [own] of priority 3"},
		"one without a name":     {skb.Forward, hookFunction("0xffffffffc0001000", 3), "hook function 0xffffffffc0001000 of priority 3"},
		"a compiler's variant":   {skb.Input, hookFunction("ip_vs_in_hook.isra.0 [ip_vs]", 99), "IPVS virtual server 10.0.0.2:2"},
		"a BPF program":          {skb.Forward, node.HookFunction{Kind: node.HookBPF, Priority: -7}, "netfilter BPF program of priority -7"},
		"one inside nat": {skb.Prerouting, node.HookFunction{Kind: node.HookNAT, Priority: -100, Inside: []node.HookFunction{hookFunction("x", -100)}},
			""}, // connection tracking is not there
	} {
		t.Run(name, func(t *testing.T) {
			w, ends := passListed(t, &listed{virtual: true}, c.hook, c.fn)
			if w.hookSource() != trace.HooksListed {
				t.Error("the list was not used")
			}
			got := ""
			for _, e := range ends {
				for _, u := range e.unknowns() {
					got = u
				}
			}
			if got != c.unknown || (c.unknown == "") != (len(ends) == 1) {
				t.Errorf("unknown is %q in %d ends, not %q", got, len(ends), c.unknown)
			}
		})
	}
}

// unknowns are what is not known of those things that an end assumes.
func (e end) unknowns() []string {
	var out []string
	for _, a := range e.assumed {
		if a.Unknown != nil {
			out = append(out, a.Unknown.What)
		}
	}
	return out
}

func TestConntrackIsActiveWhereItHasItsHook(t *testing.T) {
	n := &listed{}
	w, _ := passListed(t, n, skb.Prerouting)
	if a, err := w.conntrackActive(skb.IPv4); a || err != nil {
		t.Errorf("it is active without a hook: %v, %v", a, err)
	}
	w, _ = passListed(t, n, skb.Forward)
	w.listed[node.NFTIPv4][skb.Prerouting] = []node.HookFunction{hookFunction("ipv4_conntrack_in [nf_conntrack]", -200)}
	if a, err := w.conntrackActive(skb.IPv4); !a || err != nil {
		t.Errorf("it is not active with its hook: %v, %v", a, err)
	}
}

func TestAWalkOverHooksThatChangedIsMadeAgain(t *testing.T) {
	n := &listed{}
	w, _ := passListed(t, n, skb.Forward)
	if err := w.unchanged(); err != nil {
		t.Errorf("nothing has changed: %v", err)
	}
	n.changed = true
	if err := w.unchanged(); !errors.Is(err, errChanged) {
		t.Errorf("got %v", err)
	}
}

func TestHooksOfADevice(t *testing.T) {
	inet, netdev := hookChain("a", 0), hookChain("b", 0)
	inet.Family, netdev.Family = node.NFTInet, node.NFTNetdev
	chains := map[string]node.NFTObject{"a": chain("a", "filter", inetIngress, 0), "b": chain("b", "filter", node.DeviceIngress, 0)}
	for name, c := range map[string]struct {
		fns    []node.HookFunction
		err    error
		asked  []string
		ends   int
		source trace.HookSource
	}{
		"in the kernel's order":  {[]node.HookFunction{inet, netdev}, nil, []string{"a", "b"}, 1, trace.HooksListed},
		"the other order":        {[]node.HookFunction{netdev, inet}, nil, []string{"b", "a"}, 1, trace.HooksListed},
		"a flow table":           {[]node.HookFunction{hookFunction("nf_flow_offload_inet_hook [nf_flow_table_inet]", 0)}, nil, nil, 1, trace.HooksListed},
		"a function not known":   {[]node.HookFunction{hookFunction("own_hook", 0)}, nil, nil, 2, trace.HooksListed},
		"a chain that is gone":   {[]node.HookFunction{hookChain("gone", 0)}, nil, nil, 1, trace.HooksDerived},
		"devices are not listed": {nil, node.ErrNotSupported, nil, 1, trace.HooksDerived},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := chains["a"], chains["b"]
			a.Family, b.Family = node.NFTInet, node.NFTNetdev
			n := &listed{chains: map[string]node.NFTObject{"a": a, "b": b}, device: c.fns, deviceErr: c.err}
			w, _ := passListed(t, n, skb.Forward)
			w.ends = nil
			p, err := skb.New(skb.TCP, netip.MustParseAddrPort("10.0.0.1:1"), w.start.Destination)
			if err != nil {
				t.Fatal(err)
			}
			p.In = "eth0"
			w.ingress(&branch{p: p, prob: big.NewRat(1, 1)}, func(b *branch) { w.end(b, end{verdict: trace.Local}) })
			if w.err != nil {
				t.Fatal(w.err)
			}
			if d := cmp.Diff(c.asked, n.asked); d != "" || len(w.ends) != c.ends || w.hookSource() != c.source {
				t.Errorf("%d ends, hooks %s, chains (-want +got):\n%s", len(w.ends), w.hookSource(), d)
			}
		})
	}
}
