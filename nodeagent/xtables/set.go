package xtables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/ipset"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// setMatches and setTargets use ipsets: xt_set.c. Revision 0 is that of ipset before version 6 (2011).
var setMatches = []module{
	{name: "set", modelled: Yes, effect: inert, note: "counters and hardware addresses: depends", revisions: []revision{
		{rev: 1, size: 4, match: matchSet, text: textSetMatch},
		{rev: 2, size: 4, match: matchSet, text: textSetMatch},
		{rev: 3, size: 44, match: matchSet, text: textSetMatch},
		{rev: 4, size: 44, match: matchSet, text: textSetMatch},
	}},
}

var setTargets = []module{
	{name: "SET", modelled: Yes, note: "--map-set: unknown", revisions: []revision{
		{rev: 1, size: 8, target: targetSet, text: textSetTarget},
		{rev: 2, size: 16, target: targetSet, text: textSetTarget},
		{rev: 3, size: 20, target: targetSet, text: textSetTarget},
	}},
}

// Flags of struct xt_set_info and of its command flags.
const (
	setInvert               = 1 << 0
	setReturnNoMatch        = 1 << 7
	setExist                = 1 << 0
	setSkipCounterUpdate    = 1 << 3
	setSkipSubcounterUpdate = 1 << 4
	setMapMark              = 1 << 8
	setMapPrio              = 1 << 9
	setMapQueue             = 1 << 10
	setNone                 = 0xffff // IPSET_INVALID_ID
	setMaxDimensions        = 6
)

// setRef is struct xt_set_info.
type setRef struct {
	index uint16
	dim   int
	flags uint8
}

func decodeSetRef(b []byte) setRef {
	return setRef{index: u16(b, 0), dim: min(int(b[2]), setMaxDimensions), flags: b[3]}
}

func (s setRef) spec() ipset.Spec {
	spec := ipset.Spec{Dimensions: s.dim}
	for i := range s.dim {
		spec.Source[i] = s.flags&(1<<(i+1)) != 0
	}
	return spec
}

// setCounter is struct ip_set_counter_match: a comparison with an element's counter.
type setCounter struct {
	op    uint8
	value uint64
}

// setInfo is struct xt_set_info_match_v1 to v4.
type setInfo struct {
	setRef
	packets, bytes setCounter
	cmd            uint32
}

func decodeSet(rev uint8, info []byte) setInfo {
	d := setInfo{setRef: decodeSetRef(info)}
	switch rev {
	case 1, 2:
		if d.flags&setReturnNoMatch != 0 {
			d.cmd = setReturnNoMatch
		}
	case 3:
		d.packets, d.bytes = setCounter{info[8], u64(info, 16)}, setCounter{info[24], u64(info, 32)}
		d.cmd = u32(info, 40)
	case 4:
		d.packets, d.bytes = setCounter{info[16], u64(info, 8)}, setCounter{info[32], u64(info, 24)}
		d.cmd = u32(info, 40)
	}
	return d
}

var setCounterOps = []string{"", "eq", "ne", "lt", "gt"}

// matchSet is set_match_v1 to v4.
func matchSet(c *call) (bool, error) {
	d := decodeSet(c.rev, c.info)
	name, err := c.env.IPSetName(c.ctx, d.index)
	if err != nil {
		return false, err
	}
	spec := d.spec()
	spec.ReturnNoMatch = d.cmd&setReturnNoMatch != 0
	in, err := ipset.Test(c.ctx, c.env, name, spec, c.p, c.ch)
	if err != nil {
		return false, err
	}
	ok := in != (d.flags&setInvert != 0)
	if in {
		c.explain("the packet is in ipset %s", name)
	} else {
		c.explain("the packet is not in ipset %s", name)
	}
	for _, counter := range []struct {
		setCounter
		name string
	}{{d.packets, "packet"}, {d.bytes, "byte"}} {
		if ok && counter.op != 0 && int(counter.op) < len(setCounterOps) {
			ok = c.depends("the %s counter in ipset %s is %s %d", counter.name, name, setCounterOps[counter.op], counter.value)
		}
	}
	return ok, nil
}

func (w *writer) setRef(option string, s setRef) {
	name := ""
	if w.setName != nil {
		name = w.setName(s.index)
	}
	if name == "" {
		name = fmt.Sprintf("#%d", s.index)
	}
	w.word(option, name)
	dims := ""
	for i := 1; i <= s.dim; i++ {
		if i > 1 {
			dims += ","
		}
		if s.flags&(1<<i) != 0 {
			dims += "src"
		} else {
			dims += "dst"
		}
	}
	w.flag(dims != "", dims)
}

func textSetMatch(w *writer, info []byte) {
	d := decodeSet(w.rev, info)
	w.inv(d.flags&setInvert != 0)
	w.setRef("--match-set", d.setRef)
	w.flag(d.cmd&setReturnNoMatch != 0, "--return-nomatch")
	w.flag(d.cmd&setSkipCounterUpdate != 0, "!", "--update-counters")
	w.flag(d.cmd&setSkipSubcounterUpdate != 0, "!", "--update-subcounters")
	for _, counter := range []struct {
		setCounter
		name string
	}{{d.packets, "packets"}, {d.bytes, "bytes"}} {
		switch counter.op {
		case 1:
			w.word("--"+counter.name+"-eq", fmt.Sprint(counter.value))
		case 2:
			w.word("!", "--"+counter.name+"-eq", fmt.Sprint(counter.value))
		case 3:
			w.word("--"+counter.name+"-lt", fmt.Sprint(counter.value))
		case 4:
			w.word("--"+counter.name+"-gt", fmt.Sprint(counter.value))
		}
	}
}

// setTargetInfo is struct xt_set_info_target_v1 to v3.
type setTargetInfo struct {
	add, del, mapped setRef
	cmd, timeout     uint32
}

func decodeSetTarget(rev uint8, info []byte) setTargetInfo {
	d := setTargetInfo{add: decodeSetRef(info), del: decodeSetRef(info[4:]), mapped: setRef{index: setNone}, timeout: ^uint32(0)}
	switch rev {
	case 2:
		d.cmd, d.timeout = u32(info, 8), u32(info, 12)
	case 3:
		d.mapped, d.cmd, d.timeout = decodeSetRef(info[8:]), u32(info, 12), u32(info, 16)
	}
	return d
}

// targetSet is set_target_v1 to v3. What it adds and deletes is noted on the packet, for rules that ask later.
func targetSet(c *call) (rule.Result, error) {
	d := decodeSetTarget(c.rev, c.info)
	action := ""
	for _, change := range []struct {
		setRef
		removed bool
		verb    string
	}{{d.add, false, "add to ipset "}, {d.del, true, "delete from ipset "}} {
		if change.index == setNone {
			continue
		}
		name, err := c.env.IPSetName(c.ctx, change.index)
		if err != nil {
			return rule.Result{}, err
		}
		set, err := c.env.IPSet(c.ctx, name)
		if err != nil {
			return rule.Result{}, err
		}
		if e := ipset.EntryOf(set, change.spec(), c.p); len(e.Data) > 0 && !e.Never && e.Unknown == "" {
			c.p.Sets = append(c.p.Sets[:len(c.p.Sets):len(c.p.Sets)], skb.SetTouch{Set: name, Entry: string(e.Data), Removed: change.removed})
		}
		if action != "" {
			action += ", "
		}
		action += change.verb + name
	}
	if d.mapped.index != setNone && c.ch.Unknown("SET target with --map-set", c.where()) {
		return rule.Result{Code: rule.Stolen, Action: "not modelled: SET --map-set"}, nil
	}
	return rule.Result{Action: action}, nil
}

func textSetTarget(w *writer, info []byte) {
	d := decodeSetTarget(w.rev, info)
	if d.add.index != setNone {
		w.setRef("--add-set", d.add)
		w.flag(d.cmd&setExist != 0, "--exist")
		w.flag(d.timeout != ^uint32(0), "--timeout", fmt.Sprint(d.timeout))
	}
	if d.del.index != setNone {
		w.setRef("--del-set", d.del)
	}
	if d.mapped.index != setNone {
		w.setRef("--map-set", d.mapped)
	}
	w.flag(d.cmd&setMapMark != 0, "--map-mark")
	w.flag(d.cmd&setMapPrio != 0, "--map-prio")
	w.flag(d.cmd&setMapQueue != 0, "--map-queue")
}
