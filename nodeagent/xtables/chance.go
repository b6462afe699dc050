package xtables

import (
	"fmt"
	"math/big"
)

// chanceMatches: xt_statistic.c.
var chanceMatches = []module{
	{name: "statistic", modelled: Yes, effect: inert, note: "random: exact chance; nth counts the packets of everyone: depends",
		revisions: []revision{{size: 16, match: matchStatistic, text: textStatistic}}},
}

// Modes and flags of struct xt_statistic_info.
const (
	statisticRandom = 0
	statisticNth    = 1
	statisticInvert = 1
)

// matchStatistic is statistic_mt. A random number of 31 bits is compared with the stored one, so the chance is a
// fraction of 2^31.
func matchStatistic(c *call) (bool, error) {
	invert := u16(c.info, 2)&statisticInvert != 0
	switch u16(c.info, 0) {
	case statisticRandom:
		n := min(int64(u32(c.info, 4)), 1<<31)
		return c.ch.Chance(big.NewRat(n, 1<<31)) != invert, nil
	case statisticNth:
		every, packet := u32(c.info, 4), u32(c.info, 8)
		switch {
		case packet > every:
			return invert, nil
		case every == 0:
			return !invert, nil
		}
		return c.depends("the packet is number %d of every %d that reach this rule", packet, uint64(every)+1) != invert, nil
	}
	return invert, nil
}

func textStatistic(w *writer, info []byte) {
	invert := u16(info, 2)&statisticInvert != 0
	switch u16(info, 0) {
	case statisticRandom:
		w.word("--mode", "random")
		w.inv(invert, "--probability", fmt.Sprintf("%.11f", float64(u32(info, 4))/0x80000000))
	case statisticNth:
		w.word("--mode", "nth")
		w.inv(invert, "--every", fmt.Sprint(u32(info, 4)+1))
		w.word("--packet", fmt.Sprint(u32(info, 8)))
	}
}
