package xtables

import (
	"fmt"
)

// Flags of struct xt_policy_info, and bits of struct xt_policy_spec.
const (
	policyIn     = 1
	policyOut    = 2
	policyNone   = 4
	policyStrict = 8

	policySrc   = 1
	policyDst   = 2
	policyProto = 4
	policyMode  = 8
	policySPI   = 16
	policyReqID = 32

	policyElem = 76 // sizeof(struct xt_policy_elem)
	policyMax  = 4
)

// Where the fields of struct xt_policy_elem lie.
const (
	elemSrc, elemSrcMask, elemDst, elemDstMask = 0, 16, 32, 48
	elemSPI, elemReqID, elemProto, elemMode    = 64, 68, 72, 73
	elemMatch, elemInvert                      = 74, 75
	policyFlags, policyLen                     = 4 * policyElem, 4*policyElem + 2
)

func matchPolicy(c *call) (bool, error) {
	w := &writer{family: c.family}
	textPolicy(w, c.info)
	return c.depends("IPsec policy: %s", w.String()), nil
}

func textPolicy(w *writer, info []byte) {
	flags, n := u16(info, policyFlags), min(int(u16(info, policyLen)), policyMax)
	switch {
	case flags&policyIn != 0:
		w.word("--dir", "in")
	case flags&policyOut != 0:
		w.word("--dir", "out")
	}
	if flags&policyNone != 0 {
		w.word("--pol", "none")
	} else {
		w.word("--pol", "ipsec")
	}
	w.flag(flags&policyStrict != 0, "--strict")
	for i := range n {
		e := info[policyElem*i : policyElem*(i+1)]
		match, inv := e[elemMatch], e[elemInvert]
		put := func(bit byte, words ...string) {
			if match&bit != 0 {
				w.inv(inv&bit != 0, words...)
			}
		}
		if i > 0 {
			w.word("--next")
		}
		put(policyReqID, "--reqid", fmt.Sprint(u32(e, elemReqID)))
		put(policySPI, "--spi", hex(uint64(u32(e, elemSPI))))
		put(policyProto, "--proto", policyProtoText(e[elemProto]))
		put(policyMode, "--mode", map[byte]string{0: "transport", 1: "tunnel"}[e[elemMode]])
		put(policyDst, "--tunnel-dst", w.policyAddr(e[elemDst:], e[elemDstMask:]))
		put(policySrc, "--tunnel-src", w.policyAddr(e[elemSrc:], e[elemSrcMask:]))
	}
}

func (w *writer) policyAddr(value, mask []byte) string { return w.conntrackAddr(value[:16], mask[:16]) }

func policyProtoText(p byte) string {
	switch p {
	case 50:
		return "esp"
	case 51:
		return "ah"
	case 108:
		return "ipcomp"
	}
	return fmt.Sprint(p)
}
