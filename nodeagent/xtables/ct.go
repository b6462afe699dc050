package xtables

import (
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// ctTargets: xt_CT.c.
var ctTargets = []module{
	{name: "CT", modelled: Yes, note: "event masks are not followed", revisions: []revision{
		{rev: 0, size: 28, target: targetCT, text: textCT},
		{rev: 1, size: 60, target: targetCT, text: textCT},
		{rev: 2, size: 60, target: targetCT, text: textCT},
	}},
	{name: "NOTRACK", modelled: Yes, revisions: []revision{{size: 0, target: targetNotrack}}},
}

// Flags of struct xt_ct_target_info.
const (
	ctNotrack      = 1 << 0
	ctNotrackAlias = 1 << 1
	ctZoneOrig     = 1 << 2
	ctZoneReply    = 1 << 3
	ctZoneMark     = 1 << 4
)

// ctTargetTracks: a CT target registers conntrack's hooks unless it says not to track (xt_ct_tg_check).
func ctTargetTracks(name string, rev uint8, info []byte) bool {
	return name == "CT" && (len(info) < 2 || u16(info, 0)&ctNotrack == 0)
}

func aliasNotrack(name string, rev uint8, info []byte) bool {
	return name == "CT" && u16(info, 0)&ctNotrackAlias != 0
}

// seen reports whether the packet already carries a connection, a template or the untracked mark: then CT does nothing.
func (c *call) seen() bool {
	return c.p.Ct != nil || c.p.State == skb.CtUntracked || c.p.Template != nil
}

func targetNotrack(c *call) (rule.Result, error) {
	if c.seen() {
		return rule.Result{}, nil
	}
	c.p.State = skb.CtUntracked
	return rule.Result{Action: "notrack"}, nil
}

// targetCT is xt_ct_target.
func targetCT(c *call) (rule.Result, error) {
	flags := u16(c.info, 0)
	if flags&ctNotrack != 0 {
		return targetNotrack(c)
	}
	if c.seen() {
		return rule.Result{}, nil
	}
	t := &skb.Template{
		Zone: u16(c.info, 2), ZoneFromMark: flags&ctZoneMark != 0, Helper: cstring(c.info[12:28]),
		OriginalOnly: flags&(ctZoneOrig|ctZoneReply) == ctZoneOrig, ReplyOnly: flags&(ctZoneOrig|ctZoneReply) == ctZoneReply,
	}
	if c.rev >= 1 {
		t.Timeout = cstring(c.info[28:60])
	}
	c.p.Template = t
	var did []string
	if t.ZoneFromMark {
		did = append(did, "zone from the mark")
	} else if t.Zone != 0 {
		did = append(did, fmt.Sprintf("zone %d", t.Zone))
	}
	if t.Helper != "" {
		did = append(did, "helper "+t.Helper)
	}
	if t.Timeout != "" {
		did = append(did, "timeout policy "+t.Timeout)
	}
	return rule.Result{Action: strings.TrimSpace("ct " + strings.Join(did, ", "))}, nil
}

// Names of the events in a CT target's masks: enum ip_conntrack_events (Linux numbers the first 12) and
// enum ip_conntrack_expect_events.
var (
	ctEventNames  = []string{"new", "related", "destroy", "reply", "assured", "protoinfo", "helper", "mark", "natseqinfo", "secmark"}
	expEventNames = []string{"new"}
)

func eventText(mask uint32, names []string) string {
	var out []string
	for i, n := range names {
		if mask&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return strings.Join(out, ",")
}

func textCT(w *writer, info []byte) {
	flags := u16(info, 0)
	if flags&ctNotrackAlias != 0 {
		return
	}
	w.flag(flags&ctNotrack != 0, "--notrack")
	if helper := cstring(info[12:28]); helper != "" {
		w.word("--helper", helper)
	}
	if w.rev >= 1 {
		if timeout := cstring(info[28:60]); timeout != "" {
			w.word("--timeout", timeout)
		}
	}
	if mask := u32(info, 4); mask != 0 {
		w.word("--ctevents", eventText(mask, ctEventNames))
	}
	if mask := u32(info, 8); mask != 0 {
		w.word("--expevents", eventText(mask, expEventNames))
	}
	zone := func(option string) {
		if flags&ctZoneMark != 0 {
			w.word(option, "mark")
		} else if z := u16(info, 2); z != 0 {
			w.word(option, fmt.Sprint(z))
		}
	}
	switch flags & (ctZoneOrig | ctZoneReply) {
	case ctZoneOrig:
		zone("--zone-orig")
	case ctZoneReply:
		zone("--zone-reply")
	default:
		zone("--zone")
	}
}
