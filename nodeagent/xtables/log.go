package xtables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
)

// logTargets tell somebody and let the packet go on: xt_LOG.c, xt_NFLOG.c, xt_AUDIT.c, xt_TRACE.c, xt_LED.c,
// xt_IDLETIMER.c, xt_RATEEST.c, xt_TEE.c.
var logTargets = []module{
	{name: "LOG", modelled: Yes, effect: inert, revisions: []revision{{size: 32, target: targetLog, text: textLog}}},
	{name: "NFLOG", modelled: Yes, effect: inert, revisions: []revision{{size: 80, target: targetInert("nflog"), text: textNFLog}}},
	{name: "AUDIT", modelled: Yes, effect: inert, revisions: []revision{{size: 1, target: targetInert("audit"), text: textAudit}}},
	{name: "TRACE", modelled: Yes, revisions: []revision{{size: 0, target: targetTrace}}},
	{name: "LED", modelled: Yes, effect: inert, revisions: []revision{{size: 32, target: targetInert("led"), text: textLED}}},
	{name: "IDLETIMER", modelled: Yes, effect: inert, revisions: []revision{
		{rev: 0, size: 32, target: targetInert("restart the idle timer"), text: textIdletimer},
		{rev: 1, size: 34, target: targetInert("restart the idle timer"), text: textIdletimer},
	}},
	{name: "RATEEST", modelled: Yes, effect: inert, revisions: []revision{{size: 18, target: targetInert("count for a rate estimator"), text: textRATEEST}}},
	{name: "TEE", modelled: Yes, effect: inert, note: "the copy is not followed", revisions: []revision{{rev: 1, size: 32, target: targetTee, text: textTee}}},
}

func targetLog(c *call) (rule.Result, error) {
	prefix := cstring(c.info[2:32])
	if prefix == "" {
		return rule.Result{Action: "log"}, nil
	}
	return rule.Result{Action: "log " + quote(prefix)}, nil
}

// logDefaultLevel is what iptables leaves out: LOG_WARNING.
const logDefaultLevel = 4

func textLog(w *writer, info []byte) {
	if prefix := cstring(info[2:32]); prefix != "" {
		w.word("--log-prefix", quote(prefix))
	}
	w.flag(info[0] != logDefaultLevel, "--log-level", fmt.Sprint(info[0]))
	for _, f := range []struct {
		bit  byte
		name string
	}{{1, "--log-tcp-sequence"}, {2, "--log-tcp-options"}, {4, "--log-ip-options"}, {8, "--log-uid"}, {32, "--log-macdecode"}} {
		w.flag(info[1]&f.bit != 0, f.name)
	}
}

func textNFLog(w *writer, info []byte) {
	length, group, threshold, flags := u32(info, 0), u16(info, 4), u16(info, 6), u16(info, 8)
	if prefix := cstring(info[12:76]); prefix != "" {
		w.word("--nflog-prefix", quote(prefix))
	}
	w.flag(group != 0, "--nflog-group", fmt.Sprint(group))
	if flags&1 != 0 {
		w.word("--nflog-size", fmt.Sprint(length))
	} else {
		w.flag(length != 0, "--nflog-range", fmt.Sprint(length))
	}
	w.flag(threshold != 0, "--nflog-threshold", fmt.Sprint(threshold))
}

func textAudit(w *writer, info []byte) {
	w.word("--type")
	if int(info[0]) < 3 {
		w.word([]string{"accept", "drop", "reject"}[info[0]])
	}
}

func targetTrace(c *call) (rule.Result, error) {
	c.p.Traced = true
	return rule.Result{Action: "trace"}, nil
}

func textLED(w *writer, info []byte) {
	id := cstring(info[:27])
	const prefix = "netfilter-" // the kernel module's name for its triggers
	if len(id) > len(prefix) {
		id = id[len(prefix):]
	}
	w.word("--led-trigger-id", fmt.Sprintf("%q", id))
	switch delay := int32(u32(info, 28)); {
	case delay > 0:
		w.word("--led-delay", fmt.Sprint(delay))
	case delay == -1:
		w.word("--led-delay", "inf")
	}
	w.flag(info[27] != 0, "--led-always-blink")
}

func textIdletimer(w *writer, info []byte) {
	w.word("--timeout", fmt.Sprint(u32(info, 0)), "--label", cstring(info[4:32]))
	if w.rev == 1 {
		w.flag(info[33]&1 != 0, "--alarm")
		w.flag(info[32] != 0, "--send_nl_msg")
	}
}

// textRATEEST prints struct xt_rateest_target_info; its interval is a power of two in units of 250 ms.
func textRATEEST(w *writer, info []byte) {
	interval := float64(uint64(1000000)<<(uint(int8(info[16])+2)&31)) / 4
	ewma := interval * float64(uint64(1)<<(info[17]&31))
	w.word("--rateest-name", cstring(info[:16]), "--rateest-interval", durationText(interval), "--rateest-ewmalog", durationText(ewma))
}

// durationText prints microseconds as iptables does.
func durationText(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%.1fs", us/1e6)
	case us >= 1e3:
		return fmt.Sprintf("%.1fms", us/1e3)
	}
	return fmt.Sprintf("%.0fus", us)
}

func targetTee(c *call) (rule.Result, error) {
	return rule.Result{Action: "copy to " + addrText(addrBytes(c.family, c.info[:16]))}, nil
}

func textTee(w *writer, info []byte) {
	w.word("--gateway", addrText(w.addrBytes(info[:16])))
	if oif := cstring(info[16:32]); oif != "" {
		w.word("--oif", oif)
	}
}
