package xtables

import (
	"fmt"
	"strings"
	"time"
)

// timeMatches: xt_time.c.
var timeMatches = []module{
	{name: "time", modelled: Depends, effect: inert, revisions: []revision{{size: 22, match: matchTime, text: textTime}}},
}

// Limits and flags of struct xt_time_info.
const (
	timeAllMonthdays = 0xfffffffe
	timeAllWeekdays  = 0xfe
	timeMaxDay       = 24*60*60 - 1
	timeLocal        = 1
	timeContiguous   = 2
	timeNoStop       = 0x7fffffff
)

// matchTime depends on the clock, unless the rule takes any time.
func matchTime(c *call) (bool, error) {
	if stop := u32(c.info, 4); u32(c.info, 0) == 0 && (stop == timeNoStop || stop == ^uint32(0)) && u32(c.info, 8) == 0 &&
		u32(c.info, 12) == timeMaxDay && u32(c.info, 16) == timeAllMonthdays && c.info[20] == timeAllWeekdays {
		return true, nil
	}
	w := &writer{}
	textTime(w, c.info)
	return c.depends("the time is within %s", w.String()), nil
}

func textTime(w *writer, info []byte) {
	dateStart, dateStop, dayStart, dayStop := u32(info, 0), u32(info, 4), u32(info, 8), u32(info, 12)
	monthdays, weekdays, flags := u32(info, 16), info[20], info[21]
	clock := func(s uint32) string { return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60) }
	if dayStart != 0 || dayStop != timeMaxDay {
		w.word("--timestart", clock(dayStart), "--timestop", clock(dayStop))
	}
	days := func(mask uint32, from, to int, name func(int) string) string {
		var out []string
		for i := from; i <= to; i++ {
			if mask&(1<<i) != 0 {
				out = append(out, name(i))
			}
		}
		return strings.Join(out, ",")
	}
	if monthdays != timeAllMonthdays {
		w.word("--monthdays", days(monthdays, 1, 31, func(i int) string { return fmt.Sprint(i) }))
	}
	if weekdays != timeAllWeekdays {
		names := []string{"", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
		w.word("--weekdays", days(uint32(weekdays), 1, 7, func(i int) string { return names[i] }))
	}
	date := func(option string, t uint32) {
		if t != 0 {
			w.word(option, time.Unix(int64(t), 0).UTC().Format("2006-01-02T15:04:05"))
		}
	}
	date("--datestart", dateStart)
	date("--datestop", dateStop)
	w.flag(flags&timeLocal != 0, "--kerneltz")
	w.flag(flags&timeContiguous != 0, "--contiguous")
}
