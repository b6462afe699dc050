package walk

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// Priorities of the kernel's own hook functions (include/uapi/linux/netfilter_ipv4.h).
const (
	prioRaw       = -300
	prioConntrack = -200
	prioMangle    = -150
	prioNATDst    = -100
	prioFilter    = 0
	prioSecurity  = 50
	prioNATSrc    = 100
	// IPVS takes packets for its virtual servers at these, and the answers of real servers one before, and at FORWARD
	// (ip_vs_ops4, net/netfilter/ipvs/ip_vs_core.c).
	prioIPVSInput   = prioNATSrc - 1
	prioIPVSOutput  = prioNATDst + 2
	prioIPVSForward = prioNATSrc
)

type hookKey struct {
	family skb.Family
	hook   skb.Hook
}

// function is one hook function, as the kernel calls it.
type function struct {
	priority int32
	// name is for people, where the order of two functions is not known.
	name string
	// run passes a branch through; what goes on is given to next, what ends is recorded.
	run func(w *walk, b *branch, next func(*branch))
}

// group holds the functions of one priority. What was registered later runs first. Where the kernel's list of its hooks is
// at hand each function has a group of its own (listing.go). Else, inside one nftables table handles tell which was
// registered later, and nothing tells it between tables and for legacy tables. So a group has a sequence of functions, in
// order, for each table, and how the sequences interleave is not known.
type group struct {
	sequences []sequence
}

type sequence struct {
	of        string
	functions []function
}

// add appends a function to the sequence of a table.
func (g *group) add(of string, f function) {
	for i := range g.sequences {
		if g.sequences[i].of == of {
			g.sequences[i].functions = append(g.sequences[i].functions, f)
			return
		}
	}
	g.sequences = append(g.sequences, sequence{of, []function{f}})
}

// pass runs a branch through all functions of a hook, then next.
func (w *walk) pass(b *branch, h skb.Hook, next func(*branch)) {
	b.p.Hook = h
	groups, err := w.groups(hookKey{b.p.Family, h})
	if err != nil {
		w.fail(err)
		return
	}
	w.passGroups(b, groups, next)
}

func (w *walk) passGroups(b *branch, groups []group, next func(*branch)) {
	if w.stopped() {
		return
	}
	if len(groups) == 0 {
		next(b)
		return
	}
	w.interleave(b, groups[0].sequences, func(b *branch) { w.passGroups(b, groups[1:], next) })
}

// interleave passes a branch through the functions of several sequences, in every order that is possible.
func (w *walk) interleave(b *branch, sequences []sequence, next func(*branch)) {
	if w.stopped() {
		return
	}
	switch len(sequences) {
	case 0:
		next(b)
		return
	case 1:
		w.passAll(b, sequences[0].functions, next)
		return
	}
	w.pick(b, sequences, 0, next)
}

// pick decides whether the head of sequence i runs before the heads of those behind it, and runs it or asks on.
func (w *walk) pick(b *branch, sequences []sequence, i int, next func(*branch)) {
	if w.branches > maxBranches {
		w.tooMany(b)
		return
	}
	run := func(b *branch) {
		var left []sequence
		for j, s := range sequences {
			if j == i {
				s.functions = s.functions[1:]
			}
			if len(s.functions) > 0 {
				left = append(left, s)
			}
		}
		sequences[i].functions[0].run(w, b, func(b *branch) { w.interleave(b, left, next) })
	}
	if i == len(sequences)-1 {
		run(b)
		return
	}
	head := sequences[i].functions[0]
	var others []string
	for _, s := range sequences[i+1:] {
		others = append(others, s.functions[0].name)
	}
	where := b.p.Hook.String()
	if w.id != node.Home {
		where += " in " + w.label
	}
	u := trace.Unknown{
		What:  fmt.Sprintf("the order of %s and %s, all of priority %d", head.name, strings.Join(others, " and "), head.priority),
		Where: where,
	}
	words := fmt.Sprintf("%s runs before %s at %s", head.name, strings.Join(others, " and "), where)
	// The order is what it was when the branch came here before, with the packet that a tunnel has wrapped since.
	if runsFirst, known := b.assumes(words); known && runsFirst {
		run(b)
		return
	} else if known {
		w.pick(b, sequences, i+1, next)
		return
	}
	first, second := b.clone(), b
	w.branches++
	first.assume(rule.Assumption{Unknown: &u, Words: words})
	second.assume(rule.Assumption{Unknown: &u, Words: words, Negation: true})
	run(first)
	w.pick(second, sequences, i+1, next)
}

func (w *walk) passAll(b *branch, fs []function, next func(*branch)) {
	if w.stopped() {
		return
	}
	if len(fs) == 0 {
		next(b)
		return
	}
	fs[0].run(w, b, func(b *branch) { w.passAll(b, fs[1:], next) })
}

// groupsOf puts base chains of one hook into groups.
func groupsOf(chains []nftables.Chain) []group {
	byPriority := map[int32]*group{}
	sortChains(chains)
	var order []int32
	for _, c := range chains {
		if byPriority[c.Priority] == nil {
			byPriority[c.Priority] = &group{}
			order = append(order, c.Priority)
		}
		byPriority[c.Priority].add(tableOf(c), chainFunction(c))
	}
	groups := make([]group, len(order))
	for i, p := range order {
		groups[i] = *byPriority[p]
	}
	return groups
}

func tableOf(c nftables.Chain) string { return c.Family.String() + " " + c.Table }

// groups returns what is registered at a hook, in order.
func (w *walk) groups(k hookKey) ([]group, error) {
	if g, ok := w.hooks[k]; ok {
		return g, nil
	}
	g, known, err := w.listedGroups(k)
	if err != nil {
		return nil, err
	}
	if !known {
		if g, err = w.derivedGroups(k); err != nil {
			return nil, err
		}
	}
	w.hooks[k] = g
	return g, nil
}

// derivedGroups tells what is registered at a hook from the tables and chains there are.
func (w *walk) derivedGroups(k hookKey) ([]group, error) {
	byPriority := map[int32]*group{}
	at := func(p int32) *group {
		if byPriority[p] == nil {
			byPriority[p] = &group{}
		}
		return byPriority[p]
	}
	nat := &natHook{source: k.hook == skb.Postrouting || k.hook == skb.Input}
	chains, err := w.baseChains(k)
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		if c.Type == "nat" {
			nat.groupAt(c.Priority).add(tableOf(c), chainFunction(c))
			continue
		}
		at(c.Priority).add(tableOf(c), chainFunction(c))
	}
	tables, err := w.legacyTables(k.family)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if _, ok := t.Hook(k.hook); !ok {
			continue
		}
		if t.Name == "nat" {
			p := int32(prioNATDst)
			if nat.source {
				p = prioNATSrc
			}
			nat.groupAt(p).add("legacy nat", tableFunction(t, p))
			continue
		}
		p, ok := legacyPriority[t.Name]
		if !ok {
			return nil, fmt.Errorf("legacy table %q has no known priority", t.Name)
		}
		at(p).add("legacy "+t.Name, tableFunction(t, p))
	}
	if k.hook == skb.Prerouting || k.hook == skb.Output {
		if w.start.Bytes != nil { // else the packet is no fragment
			at(prioDefrag).add("defragmentation", function{prioDefrag, "defragmentation", (*walk).defragmentWhereOn})
		}
		// Conntrack's place among nftables chains of the same priority is as little known as a legacy table's.
		at(prioConntrack).add("conntrack", function{prioConntrack, "connection tracking", (*walk).track})
	}
	translates, err := w.translates(k.family, tables)
	if err != nil {
		return nil, err
	}
	if translates && k.hook != skb.Forward {
		p := int32(prioNATDst)
		if nat.source {
			p = prioNATSrc
		}
		at(p).add("nat", function{p, "the translation of addresses", nat.run})
	}
	switch k.hook {
	case skb.Forward:
		at(prioIPVSForward).add("ipvs", function{prioIPVSForward, "IPVS", (*walk).realServer})
	case skb.Input:
		at(prioIPVSInput-1).add("ipvs", function{prioIPVSInput - 1, "IPVS", (*walk).realServer})
		at(prioIPVSInput).add("ipvs", function{prioIPVSInput, "IPVS", (*walk).virtualServer})
	case skb.Output:
		at(prioIPVSOutput-1).add("ipvs", function{prioIPVSOutput - 1, "IPVS", (*walk).realServer})
		at(prioIPVSOutput).add("ipvs", function{prioIPVSOutput, "IPVS", (*walk).virtualServer})
	}
	var order []int32
	for p := range byPriority {
		order = append(order, p)
	}
	slices.Sort(order)
	out := make([]group, len(order))
	for i, p := range order {
		out[i] = *byPriority[p]
	}
	return out, nil
}

// translates tells whether the family has NAT: one nat chain anywhere makes the kernel put its translation at all four
// hooks (nf_nat_register_fn), so that replies are restored where no chain is.
func (w *walk) translates(f skb.Family, tables []*xtables.Table) (bool, error) {
	if slices.ContainsFunc(tables, func(t *xtables.Table) bool { return t.Name == "nat" }) {
		return true, nil
	}
	all, err := w.allBaseChains()
	return slices.ContainsFunc(all, func(c nftables.Chain) bool {
		return c.Type == "nat" && (c.Family == node.NFTInet || c.Family == node.NFTFamily(f))
	}), err
}

var legacyPriority = map[string]int32{"raw": prioRaw, "mangle": prioMangle, "filter": prioFilter, "security": prioSecurity}

// legacyTables returns the legacy tables of a family that are in use.
func (w *walk) legacyTables(f skb.Family) ([]*xtables.Table, error) {
	if t, ok := w.tables[f]; ok {
		return t, nil
	}
	names, err := w.ns.LegacyTables(w.ctx, f)
	if err != nil {
		return nil, err
	}
	var out []*xtables.Table
	for _, n := range names {
		info, entries, err := w.ns.LegacyTable(w.ctx, f, n)
		if errors.Is(err, node.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		t, err := xtables.DecodeTable(f, n, info, entries)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	if w.tables == nil {
		w.tables = map[skb.Family][]*xtables.Table{}
	}
	w.tables[f] = out
	return out, nil
}

// baseChains returns the nftables base chains of a hook of the IP families, the one registered last first among those of
// equal priority.
func (w *walk) baseChains(k hookKey) ([]nftables.Chain, error) {
	all, err := w.allBaseChains()
	if err != nil {
		return nil, err
	}
	var out []nftables.Chain
	for _, c := range all {
		if (c.Family == familyOf(k.family) || c.Family == node.NFTInet) && c.Hook == uint32(k.hook) && k.hook <= skb.Postrouting {
			out = append(out, c)
		}
	}
	out, err = w.withEffect(out)
	sortChains(out)
	return out, err
}

// withEffect leaves out chains that accept everything because they have no rules: their place matters to nobody.
func (w *walk) withEffect(chains []nftables.Chain) ([]nftables.Chain, error) {
	var out []nftables.Chain
	for _, c := range chains {
		rules, err := w.chainRules(chainKey{c.Family, c.Table, c.Name}, nil)
		if err != nil {
			return nil, err
		}
		if len(rules.raw) > 0 || c.Policy == rule.Drop {
			out = append(out, c)
		}
	}
	return out, nil
}

// sortChains puts chains into the order in which the kernel calls them as far as it is known: by priority, and in a table
// by registration backwards, which its handles count.
func sortChains(chains []nftables.Chain) {
	slices.SortStableFunc(chains, func(a, b nftables.Chain) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), -cmp.Compare(a.TableHandle, b.TableHandle), -cmp.Compare(a.Handle, b.Handle))
	})
}

// allBaseChains reads the base chains of the families that a packet of the walk's family can meet, without those of
// dormant tables.
func (w *walk) allBaseChains() ([]nftables.Chain, error) {
	if w.haveNFT || w.noNFT {
		return w.chains, nil
	}
	chains, err := w.readBaseChains(w.meets)
	if err != nil {
		return nil, err
	}
	w.chains, w.haveNFT = chains, true
	return w.chains, nil
}

// deviceChains reads the base chains of the families whose chains can be bound to a device.
func (w *walk) deviceChains() ([]nftables.Chain, error) {
	_, known, err := w.listing(familyOf(w.family()))
	switch {
	case err != nil || w.noNFT:
		return nil, err
	case !known || w.haveNFT:
		return w.allBaseChains()
	case w.haveDevices:
		return w.devices, nil
	}
	devices, err := w.readBaseChains(func(f node.NFTFamily) bool { return f == node.NFTNetdev || f == node.NFTInet })
	if err != nil {
		return nil, err
	}
	w.devices, w.haveDevices = devices, true
	return w.devices, nil
}

// readBaseChains reads the base chains of the families that are wanted, without those of dormant tables.
func (w *walk) readBaseChains(wanted func(node.NFTFamily) bool) ([]nftables.Chain, error) {
	objects, err := w.ns.NFTTables(w.ctx)
	if err != nil {
		return nil, err
	}
	type key struct {
		family node.NFTFamily
		name   string
	}
	tables := map[key]nftables.Table{}
	var families []node.NFTFamily
	for _, o := range objects {
		t, err := nftables.DecodeTable(o)
		if err != nil {
			return nil, err
		}
		tables[key{t.Family, t.Name}] = t
		if wanted(t.Family) && !slices.Contains(families, t.Family) {
			families = append(families, t.Family)
		}
	}
	var out []nftables.Chain
	for _, f := range families {
		if objects, err = w.ns.NFTBaseChains(w.ctx, f); err != nil {
			return nil, err
		}
		for _, o := range objects {
			c, err := nftables.DecodeChain(o)
			if err != nil {
				return nil, err
			}
			t, ok := tables[key{c.Family, c.Table}]
			if !c.Base || ok && t.Dormant {
				continue
			}
			c.TableHandle = t.Handle
			out = append(out, c)
		}
	}
	return out, nil
}

// family is that of the walk's packet.
func (w *walk) family() skb.Family {
	if w.start.Destination.Addr().Unmap().Is4() {
		return skb.IPv4
	}
	return skb.IPv6
}

// meets tells whether tables of a family can see the walk's packet. Reading those of the other IP family would cost as much
// as reading its own.
func (w *walk) meets(f node.NFTFamily) bool {
	switch f {
	case node.NFTARP:
		return false
	case node.NFTIPv4:
		return w.family() == skb.IPv4
	case node.NFTIPv6:
		return w.family() == skb.IPv6
	}
	return true
}
