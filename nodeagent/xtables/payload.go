package xtables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// payloadMatches look at bytes behind the fields that are described: xt_string.c, xt_u32.c (in u32.go), xt_bpf.c
// (in bpf.go), xt_osf.c.
var payloadMatches = []module{
	{name: "string", modelled: Depends, effect: inert, revisions: []revision{{rev: 1, size: 150, match: matchString, text: textString}}},
	{name: "u32", modelled: Yes, effect: inert, note: "bytes that are not known: depends", revisions: []revision{{size: u32InfoSize, match: matchU32, text: textU32}}},
	{name: "bpf", modelled: Yes, effect: inert, note: "bytes that are not known: depends; pinned programs: unknown", revisions: []revision{
		{rev: 0, size: 4 + 8*bpfMax, match: matchBPF, text: textBPF},
		{rev: 1, size: 8 + 8*bpfMax, match: matchBPF, text: textBPF},
	}},
	{name: "osf", family: skb.IPv4, modelled: Depends, effect: inert, revisions: []revision{{size: 48, match: matchOSF, text: textOSF}}},
}

// Layout and flags of struct xt_string_info.
const (
	stringAlgo, stringPattern, stringLen, stringFlags = 4, 20, 148, 149
	stringInvert                                      = 1
	stringIgnoreCase                                  = 2
)

func stringPatternOf(info []byte) []byte {
	return info[stringPattern : stringPattern+min(int(info[stringLen]), 128)]
}

func matchString(c *call) (bool, error) {
	return c.depends("the packet contains %s", stringText(stringPatternOf(c.info))) != (c.info[stringFlags]&stringInvert != 0), nil
}

func stringText(pattern []byte) string {
	if stringIsHex(pattern) {
		return fmt.Sprintf(`"|%02x|"`, pattern)
	}
	s := `"`
	for _, b := range pattern {
		if b == '"' || b == '\\' {
			s += `\`
		}
		s += string(rune(b))
	}
	return s + `"`
}

func stringIsHex(pattern []byte) bool {
	for _, b := range pattern {
		if b < 0x20 || b > 0x7e {
			return true
		}
	}
	return len(pattern) > 0 && pattern[len(pattern)-1] == '\\'
}

func textString(w *writer, info []byte) {
	pattern := stringPatternOf(info)
	option := "--string"
	if stringIsHex(pattern) {
		option = "--hex-string"
	}
	w.inv(info[stringFlags]&stringInvert != 0, option, stringText(pattern))
	w.word("--algo", cstring(info[stringAlgo:stringPattern]))
	w.flag(u16(info, 0) != 0, "--from", fmt.Sprint(u16(info, 0)))
	w.flag(u16(info, 2) != 0xffff, "--to", fmt.Sprint(u16(info, 2)))
	w.flag(info[stringFlags]&stringIgnoreCase != 0, "--icase")
}

// Flags of struct nf_osf_info.
const (
	osfTTL    = 2
	osfLog    = 4
	osfInvert = 8
)

// matchOSF is nf_osf_match: only SYN segments have a fingerprint.
func matchOSF(c *call) (bool, error) {
	genre := cstring(c.info[:32])
	if c.p.Proto() != skb.TCP {
		return false, nil
	}
	v, k := c.transport(13, 1)
	if !c.decide(same(v, k, []byte{2}, []byte{2}), "the segment has SYN set") {
		return false, nil
	}
	return c.depends("the sender's TCP looks like %s", genre) != (u32(c.info, 36)&osfInvert != 0), nil
}

func textOSF(w *writer, info []byte) {
	flags := u32(info, 36)
	w.inv(flags&osfInvert != 0, "--genre", cstring(info[:32]))
	w.flag(flags&osfTTL != 0, "--ttl", fmt.Sprint(u32(info, 44)))
	w.flag(flags&osfLog != 0, "--log", fmt.Sprint(u32(info, 40)))
}
