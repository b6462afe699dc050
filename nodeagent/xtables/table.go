package xtables

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// layout is where the fields of struct ipt_entry or struct ip6t_entry lie, in bytes.
type layout struct {
	entry         int // size of the struct
	targetOffset  int
	nextOffset    int
	counters      int
	flags         int // of struct ipt_ip
	gotoFlag      byte
	proto         int
	in, out       int
	inMask        int
	outMask       int
	invflags      int
	address       int // bytes of an address
	src, dst      int
	srcMsk, dstMk int
}

var (
	layout4 = layout{entry: 112, targetOffset: 88, nextOffset: 90, counters: 96, flags: 82, gotoFlag: 2, proto: 80, in: 16, out: 32,
		inMask: 48, outMask: 64, invflags: 83, address: 4, src: 0, dst: 4, srcMsk: 8, dstMk: 12}
	layout6 = layout{entry: 168, targetOffset: 140, nextOffset: 142, counters: 152, flags: 131, gotoFlag: 4, proto: 128, in: 64, out: 80,
		inMask: 96, outMask: 112, invflags: 132, address: 16, src: 0, dst: 16, srcMsk: 32, dstMk: 48}
)

// Sizes of struct xt_entry_match and struct xt_entry_target, and of an ERROR target with its name (xt_error_target).
const (
	headerSize      = 32
	errorTargetSize = 64
	getinfoSize     = 84
	numHooks        = 5
)

// Verdicts of the standard target, as they are stored (include/uapi/linux/netfilter/x_tables.h).
const (
	verdictDrop   = -1
	verdictAccept = -2
	verdictQueue  = -4
	verdictReturn = -5
)

// Table is a legacy table as the kernel gave it.
type Table struct {
	Name   string
	Family skb.Family

	valid            uint32
	hooks, underflow [numHooks]uint32
	entries          []byte
	l                *layout
}

// DecodeTable takes struct ipt_getinfo (or ip6t_getinfo) and the entries of struct ipt_get_entries. It decodes the
// former and keeps the latter: entries must not be changed afterwards.
func DecodeTable(f skb.Family, name string, info, entries []byte) (*Table, error) {
	t := &Table{Name: name, Family: f, entries: entries}
	switch f {
	case skb.IPv4:
		t.l = &layout4
	case skb.IPv6:
		t.l = &layout6
	default:
		return nil, fmt.Errorf("decoding table %s: %s has no legacy tables", name, f)
	}
	if len(info) < getinfoSize {
		return nil, fmt.Errorf("decoding table %s: struct getinfo of %d bytes, not %d", name, len(info), getinfoSize)
	}
	if got := cstring(info[:32]); got != name {
		return nil, fmt.Errorf("decoding table %s: the kernel answered for table %q", name, got)
	}
	if size := binary.NativeEndian.Uint32(info[80:]); int64(size) != int64(len(entries)) {
		return nil, fmt.Errorf("decoding table %s: entries of %d bytes, not %d", name, len(entries), size)
	}
	t.valid = binary.NativeEndian.Uint32(info[32:])
	for h := range numHooks {
		t.hooks[h] = binary.NativeEndian.Uint32(info[36+4*h:])
		t.underflow[h] = binary.NativeEndian.Uint32(info[56+4*h:])
	}
	return t, nil
}

// Hook returns the offset of the first rule of the hook's built-in chain; ok is false when the table has no such chain.
func (t *Table) Hook(h skb.Hook) (start uint32, ok bool) {
	if h >= numHooks || t.valid&(1<<h) == 0 {
		return 0, false
	}
	return t.hooks[h], true
}

// Policy returns the offset of the rule that is the policy of the hook's built-in chain: where a RETURN from that chain
// goes on.
func (t *Table) Policy(h skb.Hook) (off uint32, ok bool) {
	if h >= numHooks || t.valid&(1<<h) == 0 {
		return 0, false
	}
	return t.underflow[h], true
}

// Rule is one entry of a table.
type Rule struct {
	// Offset is where it lies; Next is the offset of the entry behind it.
	Offset, Next uint32
	// Chain is the name of its chain and Number its place there, counted from 1. They are set by First, Next and
	// Locate, not by Table.Rule.
	Chain  string
	Number int
	// Packets and Bytes are its counters.
	Packets, Bytes uint64
	// Policy is true for the entry that is a built-in chain's policy, ChainEnd for the unconditional RETURN that ends
	// each user-defined chain. Neither is a rule to iptables-save.
	Policy, ChainEnd bool

	raw    []byte // the whole entry
	target int    // offset of the target in raw
}

// Rule decodes the entry at an offset. It costs no more than its header.
func (t *Table) Rule(off uint32) (Rule, error) {
	r, err := t.entry(off)
	if err != nil {
		return Rule{}, err
	}
	for h := range numHooks {
		if t.valid&(1<<h) != 0 && t.underflow[h] == off {
			r.Policy = true
		}
	}
	if !r.Policy && r.target == t.l.entry {
		if v, ok := r.verdict(); ok && v == verdictReturn && r.unconditional(t.l) {
			if next, err := t.entry(r.Next); err == nil {
				name, _, _ := next.targetHeader()
				r.ChainEnd = name == "ERROR"
			}
		}
	}
	return r, nil
}

func (t *Table) entry(off uint32) (Rule, error) {
	at := int64(off)
	if at+int64(t.l.entry) > int64(len(t.entries)) || off%8 != 0 {
		return Rule{}, fmt.Errorf("table %s: no entry at offset %d", t.Name, off)
	}
	e := t.entries[at:]
	target := int(binary.NativeEndian.Uint16(e[t.l.targetOffset:]))
	next := int(binary.NativeEndian.Uint16(e[t.l.nextOffset:]))
	if target < t.l.entry || next < target+headerSize || int64(next) > int64(len(e)) {
		return Rule{}, fmt.Errorf("table %s: the entry at offset %d is damaged (target at %d, next at %d)", t.Name, off, target, next)
	}
	return Rule{
		Offset: off, Next: off + uint32(next), raw: e[:next:next], target: target,
		Packets: binary.NativeEndian.Uint64(e[t.l.counters:]),
		Bytes:   binary.NativeEndian.Uint64(e[t.l.counters+8:]),
	}, nil
}

// First decodes the first rule of a chain, with the chain's name.
func (t *Table) First(start uint32) (Rule, error) {
	r, err := t.Rule(start)
	if err != nil {
		return r, err
	}
	name, ok := t.ChainName(start)
	if !ok {
		return r, fmt.Errorf("table %s: no chain starts at offset %d", t.Name, start)
	}
	r.Chain, r.Number = name, 1
	return r, nil
}

// Next decodes the rule behind r, in the same chain.
func (t *Table) Next(r Rule) (Rule, error) {
	n, err := t.Rule(r.Next)
	if err == nil && r.Number > 0 {
		n.Chain, n.Number = r.Chain, r.Number+1
	}
	return n, err
}

// Locate returns the rule at an offset with its chain and number. It walks the table from its start.
func (t *Table) Locate(off uint32) (Rule, error) {
	start := uint32(0)
	chain, number := "", 0
	for at := uint32(0); at <= off; {
		if name, ok := t.ChainName(at); ok {
			start, chain, number = at, name, 0
		}
		number++
		if at == off {
			r, err := t.Rule(at)
			if err == nil && chain != "" && start <= at {
				r.Chain, r.Number = chain, number
			}
			return r, err
		}
		r, err := t.entry(at)
		if err != nil {
			return Rule{}, err
		}
		at = r.Next
	}
	return Rule{}, fmt.Errorf("table %s: no entry at offset %d", t.Name, off)
}

// builtin are the names of the built-in chains by hook.
var builtin = [numHooks]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

// ChainName returns the name of the chain whose first rule is at an offset.
func (t *Table) ChainName(start uint32) (string, bool) {
	for h := range numHooks {
		if t.valid&(1<<h) != 0 && t.hooks[h] == start {
			return builtin[h], true
		}
	}
	head := int64(start) - int64(t.l.entry+errorTargetSize)
	if head < 0 || head > int64(len(t.entries)) {
		return "", false
	}
	r, err := t.entry(uint32(head))
	if err != nil || r.Next != start || r.target != t.l.entry {
		return "", false
	}
	return r.chainHead()
}

// chainHead returns the name of the chain that the entry introduces.
func (r Rule) chainHead() (string, bool) {
	name, _, data := r.targetHeader()
	if name != "ERROR" || len(data) < 30 {
		return "", false
	}
	return cstring(data[:30]), true
}

// Chain is one chain of a table.
type Chain struct {
	Name string
	// Start is the offset of its first rule.
	Start uint32
	// Builtin is true for a hook's chain; Hook is then its hook.
	Builtin bool
	Hook    skb.Hook
}

// Chains calls f for each chain in the table's order until f returns false. It walks the whole table.
func (t *Table) Chains(f func(Chain) bool) error {
	for off := uint32(0); int64(off) < int64(len(t.entries)); {
		r, err := t.entry(off)
		if err != nil {
			return err
		}
		for h := range numHooks {
			if t.valid&(1<<h) != 0 && t.hooks[h] == off {
				if !f(Chain{Name: builtin[h], Start: off, Builtin: true, Hook: skb.Hook(h)}) {
					return nil
				}
			}
		}
		// The last entry of the blob is an ERROR target as well, with nothing behind it.
		if name, ok := r.chainHead(); ok && int64(r.Next) < int64(len(t.entries)) {
			if !f(Chain{Name: name, Start: r.Next}) {
				return nil
			}
		}
		off = r.Next
	}
	return nil
}

// UsesConntrack reports whether a rule of the table makes the kernel register connection tracking's hooks in the
// namespace. It stops at the first such rule.
func (t *Table) UsesConntrack() bool {
	for off := uint32(0); int64(off) < int64(len(t.entries)); {
		r, err := t.entry(off)
		if err != nil {
			return false
		}
		used := false
		r.matches(t.l, func(name string, rev uint8, info []byte) bool {
			used = MatchUsesConntrack(name, rev, info)
			return !used
		})
		if name, rev, info := r.targetHeader(); used || TargetUsesConntrack(name, rev, info) {
			return true
		}
		off = r.Next
	}
	return false
}

// UsesDefrag reports whether a rule of the table turns defragmentation on without connection tracking: socket and TPROXY.
func (t *Table) UsesDefrag() bool {
	for off := uint32(0); int64(off) < int64(len(t.entries)); {
		r, err := t.entry(off)
		if err != nil {
			return false
		}
		name, _, _ := r.targetHeader()
		used := name == "TPROXY"
		r.matches(t.l, func(name string, _ uint8, _ []byte) bool {
			used = used || name == "socket"
			return !used
		})
		if used {
			return true
		}
		off = r.Next
	}
	return false
}

// matches calls f for each match of the rule until f returns false; it returns false when the entry is damaged.
func (r Rule) matches(l *layout, f func(name string, rev uint8, info []byte) bool) bool {
	for at := l.entry; at < r.target; {
		if at+headerSize > r.target {
			return false
		}
		size := int(binary.NativeEndian.Uint16(r.raw[at:]))
		if size < headerSize || at+size > r.target {
			return false
		}
		if !f(cstring(r.raw[at+2:at+31]), r.raw[at+31], r.raw[at+headerSize:at+size]) {
			return true
		}
		at += size
	}
	return true
}

// targetHeader returns the target's name, revision and parameters. The standard target's name is empty.
func (r Rule) targetHeader() (name string, rev uint8, info []byte) {
	h := r.raw[r.target:]
	return cstring(h[2:31]), h[31], h[headerSize:]
}

// verdict returns the standard target's verdict; ok is false for other targets.
func (r Rule) verdict() (v int32, ok bool) {
	h := r.raw[r.target:]
	if h[2] != 0 || len(h) < headerSize+4 {
		return 0, false
	}
	return int32(binary.NativeEndian.Uint32(h[headerSize:])), true
}

// unconditional reports whether the entry has no condition at all.
func (r Rule) unconditional(l *layout) bool {
	if r.target != l.entry {
		return false
	}
	end := l.invflags + 1
	for i, b := range r.raw[:end] {
		if b != 0 && i != l.flags {
			return false
		}
	}
	return true
}

// cstring returns the text before the first NUL.
func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
