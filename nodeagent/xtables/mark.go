package xtables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
)

// markMatches test the packet's and the connection's mark: xt_mark.c, xt_connmark.c.
var markMatches = []module{
	{name: "mark", modelled: Yes, effect: inert, revisions: []revision{{rev: 1, size: 9, match: matchMark, text: textMarkMatch}}},
	{name: "connmark", modelled: Yes, effect: inert, tracks: true, revisions: []revision{{rev: 1, size: 9, match: matchConnmark, text: textMarkMatch}}},
}

// markTargets set them, or the queueing priority: xt_mark.c, xt_connmark.c, xt_CLASSIFY.c, xt_CONNSECMARK.c, xt_SECMARK.c.
var markTargets = []module{
	{name: "MARK", modelled: Yes, revisions: []revision{{rev: 2, size: 8, target: targetMark, text: textMark}}},
	{name: "CONNMARK", modelled: Yes, tracks: true, revisions: []revision{
		{rev: 1, size: 13, target: targetConnmark, text: textConnmark},
		{rev: 2, size: 15, target: targetConnmark, text: textConnmark},
	}},
	{name: "CLASSIFY", modelled: Yes, revisions: []revision{{size: 4, target: targetClassify, text: textClassify}}},
	{name: "SECMARK", modelled: Yes, effect: inert, note: "security contexts are not followed; nothing in the IP path reads them", revisions: []revision{
		{rev: 0, size: 264, target: targetInert("set the security mark"), text: textSecmark(8)},
		{rev: 1, size: 257, target: targetInert("set the security mark"), text: textSecmark(1)},
	}},
	{name: "CONNSECMARK", modelled: Yes, effect: inert, tracks: true, note: "security contexts are not followed; nothing in the IP path reads them",
		revisions: []revision{{size: 1, target: targetInert("copy the security mark"), text: textConnsecmark}}},
}

// matchMark is mark_mt.
func matchMark(c *call) (bool, error) {
	return (c.p.Mark&u32(c.info, 4) == u32(c.info, 0)) != (c.info[8] != 0), nil
}

// matchConnmark is connmark_mt: without a connection it never matches, inverted or not.
func matchConnmark(c *call) (bool, error) {
	if c.p.Ct == nil {
		return false, nil
	}
	return (c.p.Ct.Mark&u32(c.info, 4) == u32(c.info, 0)) != (c.info[8] != 0), nil
}

func textMarkMatch(w *writer, info []byte) {
	w.inv(info[8] != 0, "--mark", masked(u32(info, 0), u32(info, 4)))
}

// targetMark is mark_tg: and, or, xor and set are all one formula.
func targetMark(c *call) (rule.Result, error) {
	before := c.p.Mark
	c.p.Mark = before&^u32(c.info, 4) ^ u32(c.info, 0)
	return rule.Result{Action: markAction("mark", before, c.p.Mark)}, nil
}

func markAction(what string, before, after uint32) string {
	if before == after {
		return fmt.Sprintf("%s stays %#x", what, after)
	}
	return fmt.Sprintf("%s set %#x", what, after)
}

func textMark(w *writer, info []byte) {
	w.word("--set-xmark", hex(uint64(u32(info, 0)))+"/"+hex(uint64(u32(info, 4))))
}

// Modes of struct xt_connmark_tginfo1 and 2.
const (
	connmarkSet     = 0
	connmarkSave    = 1
	connmarkRestore = 2
)

func connmarkMode(rev uint8, info []byte) (shiftRight bool, shift, mode byte) {
	if rev == 1 {
		return false, 0, info[12]
	}
	return info[12] != 0, info[13], info[14]
}

// targetConnmark is connmark_tg_shift.
func targetConnmark(c *call) (rule.Result, error) {
	ct := c.p.Ct
	if ct == nil {
		return rule.Result{}, nil
	}
	ctmark, ctmask, nfmask := u32(c.info, 0), u32(c.info, 4), u32(c.info, 8)
	right, bits, mode := connmarkMode(c.rev, c.info)
	shift := func(v uint32) uint32 {
		if right {
			return v >> bits
		}
		return v << bits
	}
	switch mode {
	case connmarkSet:
		before := ct.Mark
		ct.Mark = shift(ct.Mark&^ctmask ^ ctmark)
		return rule.Result{Action: markAction("connection mark", before, ct.Mark)}, nil
	case connmarkSave:
		before := ct.Mark
		ct.Mark = ct.Mark&^ctmask ^ shift(c.p.Mark&nfmask)
		return rule.Result{Action: markAction("connection mark", before, ct.Mark)}, nil
	case connmarkRestore:
		before := c.p.Mark
		c.p.Mark = c.p.Mark&^nfmask ^ shift(ct.Mark&ctmask)
		return rule.Result{Action: markAction("mark", before, c.p.Mark)}, nil
	}
	return rule.Result{}, nil
}

func textConnmark(w *writer, info []byte) {
	ctmark, ctmask, nfmask := u32(info, 0), u32(info, 4), u32(info, 8)
	right, bits, mode := connmarkMode(w.rev, info)
	switch mode {
	case connmarkSet:
		w.word("--set-xmark", hex(uint64(ctmark))+"/"+hex(uint64(ctmask)))
	case connmarkSave, connmarkRestore:
		option := "--save-mark"
		if mode == connmarkRestore {
			option = "--restore-mark"
		}
		w.word(option, "--nfmask", hex(uint64(nfmask)), "--ctmask", hex(uint64(ctmask)))
	}
	if bits != 0 {
		option := "--left-shift-mark"
		if right {
			option = "--right-shift-mark"
		}
		w.word(option, fmt.Sprint(bits))
	}
}

// targetClassify is classify_tg.
func targetClassify(c *call) (rule.Result, error) {
	c.p.Priority, c.p.PriorityUnknown = u32(c.info, 0), false
	return rule.Result{Action: "priority set " + classText(c.p.Priority)}, nil
}

func classText(v uint32) string { return fmt.Sprintf("%x:%x", v>>16, v&0xffff) }

func textClassify(w *writer, info []byte) {
	w.word("--set-class", fmt.Sprintf("%04x:%04x", u32(info, 0)>>16, u32(info, 0)&0xffff))
}

func textSecmark(off int) func(*writer, []byte) {
	return func(w *writer, info []byte) { w.word("--selctx", cstring(info[off:off+256])) }
}

func textConnsecmark(w *writer, info []byte) {
	switch info[0] {
	case 1:
		w.word("--save")
	case 2:
		w.word("--restore")
	}
}

// targetInert is a target that changes nothing the walk sees.
func targetInert(action string) func(*call) (rule.Result, error) {
	return func(*call) (rule.Result, error) { return rule.Result{Action: action}, nil }
}
