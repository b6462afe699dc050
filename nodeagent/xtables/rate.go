package xtables

import (
	"errors"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// rateMatches depend on what passed before: xt_limit.c, xt_hashlimit.c (in hashlimit.go), xt_quota.c, xt_connlimit.c,
// xt_connbytes.c, xt_nfacct.c, xt_rateest.c. The kernel shows their state to nobody, except for nfacct and connbytes.
var rateMatches = []module{
	{name: "limit", modelled: Depends, effect: inert, revisions: []revision{{size: 8, match: matchLimit, text: textLimit}}},
	{name: "hashlimit", modelled: Depends, effect: inert, revisions: []revision{
		{rev: 1, size: 46, match: matchHashlimit, text: textHashlimit},
		{rev: 2, size: 294, match: matchHashlimit, text: textHashlimit},
		{rev: 3, size: 298, match: matchHashlimit, text: textHashlimit},
	}},
	{name: "quota", modelled: Depends, effect: inert, revisions: []revision{{size: 16, match: matchQuota, text: textQuota}}},
	{name: "connlimit", modelled: Depends, effect: inert, tracks: true, revisions: []revision{{rev: 1, size: 24, match: matchConnlimit, text: textConnlimit}}},
	{name: "connbytes", modelled: Yes, effect: inert, tracks: true, note: "packets exactly where they are counted; bytes: depends",
		revisions: []revision{{size: 18, match: matchConnbytes, text: textConnbytes}}},
	{name: "nfacct", modelled: Yes, effect: inert, note: "an object with a quota that is not used up: depends", revisions: []revision{
		{rev: 0, size: 32, match: matchAccount, text: textAccount},
		{rev: 1, size: 32, match: matchAccount, text: textAccount},
	}},
	{name: "rateest", modelled: Depends, effect: inert, revisions: []revision{{size: 52, match: matchRateest, text: textRateest}}},
}

// limitScale is XT_LIMIT_SCALE: periods are stored in 1/10000 s.
const limitScale = 10000

var periods = []struct {
	name    string
	seconds uint64
}{{"day", 86400}, {"hour", 3600}, {"min", 60}, {"sec", 1}}

// rateText prints a period in units of 1/scale seconds as iptables does; the unit's length comes back in seconds.
func rateText(period, scale uint64) (string, uint64) {
	if period == 0 {
		return "inf", 0
	}
	i := 1
	for ; i < len(periods); i++ {
		mult := periods[i].seconds * scale
		if period > mult || mult/period < mult%period {
			break
		}
	}
	return fmt.Sprintf("%d/%s", periods[i-1].seconds*scale/period, periods[i-1].name), periods[i-1].seconds
}

func matchLimit(c *call) (bool, error) {
	rate, _ := rateText(uint64(u32(c.info, 0)), limitScale)
	return c.depends("rate limit %s, burst %d, not exceeded", rate, u32(c.info, 4)), nil
}

func textLimit(w *writer, info []byte) {
	rate, _ := rateText(uint64(u32(info, 0)), limitScale)
	w.word("--limit", rate)
	if burst := u32(info, 4); burst != 5 {
		w.word("--limit-burst", fmt.Sprint(burst))
	}
}

// matchQuota is quota_mt: a quota of nothing is never enough.
func matchQuota(c *call) (bool, error) {
	invert, quota := u32(c.info, 0)&1 != 0, u64(c.info, 8)
	if quota == 0 {
		return invert, nil
	}
	return c.depends("the quota of %d bytes is not used up", quota) != invert, nil
}

func textQuota(w *writer, info []byte) {
	w.inv(u32(info, 0)&1 != 0, "--quota", fmt.Sprint(u64(info, 8)))
}

// Flags of struct xt_connlimit_info.
const (
	connlimitInvert = 1
	connlimitDst    = 2
)

// matchConnlimit is connlimit_mt. The packet's own connection counts, so there is more than none, unless that connection is
// closed: then there may be none, and connlimit_mt drops the packet as if it had no memory to count.
func matchConnlimit(c *call) (bool, error) {
	limit, flags := u32(c.info, 16), u32(c.info, 20)
	invert := flags&connlimitInvert != 0
	if c.closes() && c.depends("connlimit counts no connection, since the packet's own is closed") {
		c.hotdrop = true
		return false, nil
	}
	if limit == 0 {
		return !invert, nil
	}
	a, side := c.p.Src(), "from"
	if flags&connlimitDst != 0 {
		a, side = c.p.Dst(), "to"
	}
	mask := addrBytes(c.family, c.info[:16])
	return c.depends("more than %d connections %s %s/%s", limit, side, maskAddr(a, mask), maskText(mask)) != invert, nil
}

// closes tells whether conntrack has the packet's connection as closed once it has seen the packet.
func (c *call) closes() bool {
	const lastACK, timeWait, closed = 6, 7, 8 // enum tcp_conntrack
	if c.p.Proto() != skb.TCP || c.p.Ct == nil || c.p.Ct.New {
		return false
	}
	switch c.p.Ct.TCPState {
	case lastACK, timeWait, closed:
		return true
	}
	flags, known := c.p.TCPFlags()
	return flags&known&4 != 0
}

func textConnlimit(w *writer, info []byte) {
	limit, flags := u32(info, 16), u32(info, 20)
	if flags&connlimitInvert != 0 {
		w.word("--connlimit-upto", fmt.Sprint(limit))
	} else {
		w.word("--connlimit-above", fmt.Sprint(limit))
	}
	bits, _ := prefixLength(w.addrBytes(info[:16]))
	w.word("--connlimit-mask", fmt.Sprint(bits))
	if flags&connlimitDst != 0 {
		w.word("--connlimit-daddr")
	} else {
		w.word("--connlimit-saddr")
	}
}

// What struct xt_connbytes_info compares, and in which direction.
const (
	connbytesPackets = 0
	connbytesBytes   = 1
	connbytesAverage = 2
)

var (
	connbytesModes = []string{"packets", "bytes", "avgpkt"}
	connbytesDirs  = []string{"original", "reply", "both"}
)

// matchConnbytes is connbytes_mt. Counters that are not kept never match.
func matchConnbytes(c *call) (bool, error) {
	from, to, what, dir := u64(c.info, 0), u64(c.info, 8), c.info[16], c.info[17]
	ct := c.p.Ct
	if ct == nil || !ct.New && !ct.Counted {
		return false, nil
	}
	if int(what) >= len(connbytesModes) || int(dir) >= len(connbytesDirs) {
		return false, nil
	}
	// This packet counts already. Its length is not known, so bytes are.
	count := map[byte]uint64{0: ct.OrigPackets, 1: ct.ReplyPackets, 2: ct.OrigPackets + ct.ReplyPackets}[dir]
	if reply := c.p.State.Reply(); dir == 2 || (dir == 1) == reply {
		count++
	}
	n := exact(count)
	if what != connbytesPackets && count != 0 {
		n = number{width: ^uint64(0)}
	}
	condition := fmt.Sprintf("the connection has %s %s in direction %s", span(min(from, to), max(from, to)), connbytesModes[what], connbytesDirs[dir])
	if to >= from {
		return c.decide(n.within(from, to), condition), nil
	}
	return !c.decide(n.within(to, from), condition), nil
}

func textConnbytes(w *writer, info []byte) {
	from, to := u64(info, 0), u64(info, 8)
	invert := from > to
	if invert {
		from, to = to, from
	}
	s := fmt.Sprint(from)
	if to != 0 && to < ^uint64(0) {
		s += fmt.Sprintf(":%d", to)
	}
	w.inv(invert, "--connbytes", s)
	if int(info[16]) < len(connbytesModes) {
		w.word("--connbytes-mode", connbytesModes[info[16]])
	}
	if int(info[17]) < len(connbytesDirs) {
		w.word("--connbytes-dir", connbytesDirs[info[17]])
	}
}

// matchAccount is nfacct_mt: an object without quota always matches, one with a quota only once that is used up.
func matchAccount(c *call) (bool, error) {
	name := cstring(c.info[:32])
	condition := fmt.Sprintf("nfacct object %s has no quota, or has used it up", name)
	accounts, ok := c.env.(Accounts)
	if !ok {
		return c.depends("%s", condition), nil
	}
	a, err := accounts.Account(c.ctx, name)
	if errors.Is(err, node.ErrNotFound) {
		// A rule keeps its object alive, so the rule is newer than what was read.
		return c.depends("%s", condition), nil
	}
	if err != nil {
		return false, err
	}
	if !a.HasQuota || a.OverQuota {
		return true, nil
	}
	return c.depends("%s", condition), nil
}

func textAccount(w *writer, info []byte) { w.word("--nfacct-name", cstring(info[:32])) }

// Flags and modes of struct xt_rateest_match_info.
const (
	rateestInvert   = 1
	rateestAbsolute = 2
	rateestRelative = 4
	rateestDelta    = 8
	rateestBps      = 16
	rateestPps      = 32
)

func matchRateest(c *call) (bool, error) {
	w := &writer{}
	textRateest(w, c.info)
	return c.depends("rate estimator: %s", w.String()), nil
}

func textRateest(w *writer, info []byte) {
	flags, mode := u16(info, 32), u16(info, 34)
	absolute, delta := flags&rateestAbsolute != 0, flags&rateestDelta != 0
	rates := func(name, first, second string) {
		if delta {
			w.word("--rateest-"+name+"1", first)
		}
		w.inv(flags&rateestInvert != 0, map[uint16]string{1: "--rateest-eq", 2: "--rateest-lt", 3: "--rateest-gt"}[mode])
		if delta {
			name += "2"
		}
		w.word("--rateest-" + name)
		w.flag(absolute || delta, second)
	}
	w.flag(delta, "--rateest-delta")
	if flags&rateestRelative != 0 {
		w.word("--rateest1", cstring(info[:16]))
	} else {
		w.word("--rateest", cstring(info[:16]))
	}
	if flags&rateestBps != 0 {
		rates("bps", bitRate(u32(info, 36)), bitRate(u32(info, 44)))
	}
	if flags&rateestPps != 0 {
		rates("pps", fmt.Sprint(u32(info, 40)), fmt.Sprint(u32(info, 48)))
	}
	w.flag(flags&rateestRelative != 0, "--rateest2", cstring(info[16:32]))
}

// bitRate prints bytes per second as iptables does.
func bitRate(v uint32) string {
	b := float64(v) * 8
	switch {
	case b >= 1e9:
		return fmt.Sprintf("%.0fMbit", b/1e6)
	case b >= 1e6:
		return fmt.Sprintf("%.0fKbit", b/1e3)
	}
	return fmt.Sprintf("%.0fbit", b)
}

// length is the packet's length from the network header on.
func (c *call) length() number {
	if c.family == skb.IPv6 {
		return numberOf(c.network(4, 2)).plus(40)
	}
	return numberOf(c.network(2, 2))
}
