//go:build linux

// Package hooklist reads which functions the kernel has registered at its netfilter hooks, in the order in which it calls
// them.
//
// No interface tells it whole. nfnetlink's own listing (NFNL_SUBSYS_HOOK) is an option that not every kernel is built with,
// and does not look into the nat hook; the chains that nftables lists come without the order of chains of equal priority in
// different tables, and without the place of legacy tables, BPF links and the kernel's own functions. So the kernel's lists
// themselves are read (package kmem):
//
//	thread ─ nsproxy ─ struct net ─ nf.hooks_ipv4[hook] ─ nf_hook_entries ─┬─ hooks[]: what is called, in order
//	                            │                                          └─ orig_ops[]: struct nf_hook_ops, how it was registered
//	                            └─ dev_index_head[] ─ struct net_device ─ nf_hooks_ingress ─ nf_hook_entries
//	nf_hook_ops.priv ─┬─ struct nft_chain ─ name, struct nft_table ─ name
//	                  ├─ struct xt_table ─ name
//	                  └─ struct nf_nat_lookup_hook_priv ─ nf_hook_entries: the nat chains
//
// (include/linux/netfilter.h, net/netfilter/core.c, nf_nat_core.c.) The lists change under the reader's hands. What does not
// add up is an error; what was read is true when the lists are the same afterwards (Same).
package hooklist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/kmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// ErrOdd is in the chain of errors about lists that do not add up: they changed while they were read, or the kernel is
// built in a way that is not known here.
var ErrOdd = errors.New("the kernel's list of hooks does not add up")

// The kernel's bounds: MAX_HOOK_COUNT, and NF_INET_NUMHOOKS without ingress, for all families alike.
const (
	maxFunctions = 1024
	numHooks     = 5
)

// entrySize is the size of struct nf_hook_entry, a function and its private pointer, of 64 bits each.
const entrySize = 16

// Values of enum nf_hook_ops_type (include/linux/netfilter.h).
const (
	opUndefined = 0
	opNFTables  = 1
	opBPF       = 2
)

// Reader lists the hooks of one network namespace, which the calling thread must be in. It is not safe for concurrent use.
type Reader struct {
	memory *kmem.Reader
	net    uint64
	// pointers are the pointers to lists, and lists are the lists, as they were read: by their addresses.
	pointers, lists map[uint64][]byte
	// names are those of functions and tables that were met.
	names map[uint64]string
	// chains are the addresses of nftables chains that were met.
	chains map[inTable][]uint64
}

// inTable is an nftables table.
type inTable struct {
	family node.NFTFamily
	name   string
}

// New returns a reader for the calling thread's namespace.
func New(memory *kmem.Reader) (*Reader, error) {
	if memory.Layout.EntrySize != entrySize {
		return nil, fmt.Errorf("%w: an entry of %d bytes", ErrOdd, memory.Layout.EntrySize)
	}
	r := &Reader{memory: memory, pointers: map[uint64][]byte{}, lists: map[uint64][]byte{}, names: map[uint64]string{}, chains: map[inTable][]uint64{}}
	net, err := memory.Namespace()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOdd, err)
	}
	r.net = net
	return r, nil
}

// Network is the address of the namespace's struct net.
func (r *Reader) Network() uint64 { return r.net }

// Chains are the addresses of the struct nft_chain of a table that were met at hooks.
func (r *Reader) Chains(f node.NFTFamily, table string) []uint64 {
	return slices.Clone(r.chains[inTable{f, table}])
}

// Hooks lists the functions at the hooks of a family, IPv4, IPv6 or bridge, by the hook's number.
func (r *Reader) Hooks(f node.NFTFamily) ([][]node.HookFunction, error) {
	if f == node.NFTBridge && r.memory.Layout.HooksBridge == bpf.Absent {
		return make([][]node.HookFunction, numHooks), nil // a kernel without CONFIG_NETFILTER_FAMILY_BRIDGE, but with the others
	}
	heads, err := r.heads(f)
	if err != nil {
		return nil, err
	}
	pointers := make([]byte, 8*numHooks)
	if err := r.memory.Bytes(heads, pointers); err != nil {
		return nil, err
	}
	r.pointers[heads] = pointers
	out := make([][]node.HookFunction, numHooks)
	for h := range out {
		if out[h], err = r.functions(binary.NativeEndian.Uint64(pointers[8*h:]), place{family: f, hook: uint32(h)}); err != nil {
			return nil, fmt.Errorf("%s hook %d: %w", f, h, err)
		}
	}
	return out, nil
}

// heads is where the pointers to a family's lists are.
func (r *Reader) heads(f node.NFTFamily) (uint64, error) {
	l := r.memory.Layout
	switch f {
	case node.NFTIPv4:
		return r.net + uint64(l.HooksIPv4), nil
	case node.NFTIPv6:
		return r.net + uint64(l.HooksIPv6), nil
	case node.NFTBridge:
		return r.net + uint64(l.HooksBridge), nil
	}
	return 0, fmt.Errorf("the hooks of family %s: %w", f, node.ErrNotSupported)
}

// Same tells whether all lists that were read are where they were, with the same functions in them.
func (r *Reader) Same() (bool, error) {
	for _, read := range []map[uint64][]byte{r.pointers, r.lists} {
		for address, was := range read {
			is := make([]byte, len(was))
			err := r.memory.Bytes(address, is)
			if errors.Is(err, kmem.ErrFault) {
				return false, nil
			}
			if err != nil {
				return false, err
			}
			if !bytes.Equal(is, was) {
				return false, nil
			}
		}
	}
	return true, nil
}

// list reads a struct nf_hook_entries.
func (r *Reader) list(address uint64) ([]byte, error) {
	var count [2]byte // nf_hook_entries.num_hook_entries, its first member
	if err := r.memory.Bytes(address, count[:]); err != nil {
		return nil, err
	}
	n := int(binary.NativeEndian.Uint16(count[:]))
	if n > maxFunctions {
		return nil, fmt.Errorf("%w: %d functions", ErrOdd, n)
	}
	raw := make([]byte, r.memory.Layout.EntriesHooks+n*(entrySize+8))
	if err := r.memory.Bytes(address, raw); err != nil {
		return nil, err
	}
	if again := int(binary.NativeEndian.Uint16(raw)); again != n {
		return nil, fmt.Errorf("%w: %d functions, then %d", ErrOdd, n, again)
	}
	r.lists[address] = raw
	return raw, nil
}

// place is where a list of functions is: at a hook of a family, inside the nat function there, or at a device. Devices' hooks
// are those of family netdev.
type place struct {
	family node.NFTFamily
	hook   uint32
	inNAT  bool
}

// inetIngress is NF_INET_INGRESS: chains of family inet can be bound to devices too.
const inetIngress = 5

// has tells whether a function can be registered there.
func (p place) has(o operation) bool {
	switch {
	case p.family == node.NFTNetdev && p.hook == node.DeviceIngress && o.family == node.NFTInet:
		return o.hook == inetIngress
	case o.family == node.NFTInet:
		return o.hook == p.hook && (p.family == node.NFTIPv4 || p.family == node.NFTIPv6)
	}
	return o.hook == p.hook && o.family == p.family
}

// functions lists the functions of one hook, from its struct nf_hook_entries on.
func (r *Reader) functions(address uint64, p place) ([]node.HookFunction, error) {
	if address == 0 {
		return nil, nil
	}
	raw, err := r.list(address)
	if err != nil {
		return nil, err
	}
	count := int(binary.NativeEndian.Uint16(raw))
	entries := raw[r.memory.Layout.EntriesHooks:]
	registered := entries[count*entrySize:]
	var out []node.HookFunction
	for i := range count {
		entry := entries[i*entrySize:]
		o, err := r.operation(binary.NativeEndian.Uint64(registered[8*i:]))
		if err != nil {
			return nil, err
		}
		if o.function != binary.NativeEndian.Uint64(entry) || o.private != binary.NativeEndian.Uint64(entry[8:]) {
			return nil, fmt.Errorf("%w: function %d is not what was registered", ErrOdd, i)
		}
		if !p.has(o) {
			return nil, fmt.Errorf("%w: function %d was registered for hook %d of family %s", ErrOdd, i, o.hook, o.family)
		}
		if n := len(out); n > 0 && o.priority < out[n-1].Priority {
			return nil, fmt.Errorf("%w: priority %d behind %d", ErrOdd, o.priority, out[n-1].Priority)
		}
		fn, err := r.describe(o, p)
		if err != nil {
			return nil, err
		}
		out = append(out, fn)
	}
	return out, nil
}

// operation is what is read of a struct nf_hook_ops.
type operation struct {
	function, private uint64
	family            node.NFTFamily
	hook              uint32
	priority          int32
	kind              uint64
}

func (r *Reader) operation(address uint64) (operation, error) {
	l := r.memory.Layout
	first := min(l.OpsHook, l.OpsPriv, l.OpsPF, l.OpsNumber, l.OpsPriority, l.OpsKind)
	last := max(l.OpsHook, l.OpsPriv, l.OpsPF, l.OpsNumber-4, l.OpsPriority-4, l.OpsKind) + 8
	b := make([]byte, last-first)
	if err := r.memory.Bytes(address+uint64(first), b); err != nil {
		return operation{}, err
	}
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at-first:]) }
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at-first:]) }
	return operation{
		function: u64(l.OpsHook),
		private:  u64(l.OpsPriv),
		family:   node.NFTFamily(b[l.OpsPF-first]),
		hook:     u32(l.OpsNumber),
		priority: int32(u32(l.OpsPriority)),
		kind:     u64(l.OpsKind) << l.OpsKindLeft >> l.OpsKindRight,
	}, nil
}

// describe finds out what an operation is.
func (r *Reader) describe(o operation, p place) (fn node.HookFunction, err error) {
	fn = node.HookFunction{Kind: node.HookFunctionOf, Priority: o.priority, Family: o.family}
	switch o.kind {
	case opNFTables:
		fn.Kind = node.HookChain
		if fn.Table, fn.Name, err = r.chain(o.private); err == nil {
			in := inTable{o.family, fn.Table}
			r.chains[in] = append(r.chains[in], o.private)
		}
		return fn, err
	case opBPF:
		fn.Kind = node.HookBPF
		return fn, nil
	}
	symbol, err := r.symbol(o.function)
	if err != nil {
		return fn, err
	}
	fn.Name = symbol
	if o.kind != opUndefined {
		return fn, nil
	}
	switch what := bare(symbol); {
	case runsTable(what):
		if o.private == 0 || r.memory.Layout.XTName == bpf.Absent {
			return fn, fmt.Errorf("%w: a table without a name", ErrOdd)
		}
		fn.Kind = node.HookTable
		fn.Name, err = r.text(o.private + uint64(r.memory.Layout.XTName))
	case strings.HasPrefix(what, "nf_nat_") && !p.inNAT:
		if o.private == 0 || r.memory.Layout.NATEntries == bpf.Absent {
			return fn, fmt.Errorf("%w: a nat function without chains", ErrOdd)
		}
		fn.Kind = node.HookNAT
		fn.Inside, err = r.at(o.private+uint64(r.memory.Layout.NATEntries), place{p.family, p.hook, true})
	}
	return fn, err
}

// at lists the functions behind a pointer to their list.
func (r *Reader) at(head uint64, p place) ([]node.HookFunction, error) {
	pointer := make([]byte, 8)
	if err := r.memory.Bytes(head, pointer); err != nil {
		return nil, err
	}
	r.pointers[head] = pointer
	return r.functions(binary.NativeEndian.Uint64(pointer), p)
}

// runsTable recognises the functions by which legacy tables run; their private pointer is the struct xt_table.
func runsTable(function string) bool {
	switch function {
	case "ipt_do_table", "iptable_mangle_hook", "ip6t_do_table", "ip6table_mangle_hook":
		return true
	}
	return false
}

// bare is a function's name without its module and without what compilers append (".cold", ".llvm.123", ".cfi").
func bare(symbol string) string {
	name, _, _ := strings.Cut(symbol, " ")
	name, _, _ = strings.Cut(name, ".")
	return name
}

// chain reads the names of an nftables chain and of its table.
func (r *Reader) chain(address uint64) (table, name string, err error) {
	l := r.memory.Layout
	if address == 0 || l.ChainName == bpf.Absent || l.ChainTable == bpf.Absent || l.TableName == bpf.Absent {
		return "", "", fmt.Errorf("%w: a chain that is none", ErrOdd)
	}
	at, err := r.memory.Pointer(address + uint64(l.ChainName))
	if err != nil {
		return "", "", err
	}
	if name, err = r.text(at); err != nil {
		return "", "", err
	}
	of, err := r.memory.Pointer(address + uint64(l.ChainTable))
	if err != nil {
		return "", "", err
	}
	if known, ok := r.names[of]; ok {
		return known, name, nil
	}
	if at, err = r.memory.Pointer(of + uint64(l.TableName)); err != nil {
		return "", "", err
	}
	if table, err = r.text(at); err != nil {
		return "", "", err
	}
	r.names[of] = table
	return table, name, nil
}

// text reads a name.
func (r *Reader) text(address uint64) (string, error) {
	s, err := r.memory.Text(address)
	if err == nil && s == "" {
		err = fmt.Errorf("%w: a name without letters", ErrOdd)
	}
	return s, err
}

func (r *Reader) symbol(function uint64) (string, error) {
	if s, ok := r.names[function]; ok {
		return s, nil
	}
	s, err := r.memory.Symbol(function)
	if err == nil {
		r.names[function] = s
	}
	return s, err
}
