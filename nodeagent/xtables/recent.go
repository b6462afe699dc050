package xtables

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// recentMatches: xt_recent.c. Lists are read as they are now; what rules did to them earlier in the same walk is known
// from the packet (skb.Packet.Recent).
var recentMatches = []module{
	{name: "recent", modelled: Yes, effect: inert, note: "the list as it is now; --rttl with an unknown TTL: depends", revisions: []revision{
		{rev: 0, size: 211, match: matchRecent, text: textRecent},
		{rev: 1, size: 228, match: matchRecent, text: textRecent},
	}},
}

// Bits of check_set in struct xt_recent_mtinfo.
const (
	recentCheck  = 1 << 0
	recentSet    = 1 << 1
	recentUpdate = 1 << 2
	recentRemove = 1 << 3
	recentTTL    = 1 << 4
	recentReap   = 1 << 5
)

type recentInfo struct {
	seconds, hits uint32
	set           uint8
	invert        bool
	name          string
	dest          bool
	mask          []byte
}

func decodeRecent(info []byte, rev uint8, f skb.Family) recentInfo {
	d := recentInfo{seconds: u32(info, 0), hits: u32(info, 4), set: info[8], invert: info[9] != 0, name: cstring(info[10:210]), dest: info[210] == 1}
	if rev == 1 {
		d.mask = addrBytes(f, info[212:228])
	}
	return d
}

func recentWrites(info []byte) bool {
	return len(info) > 8 && info[8]&(recentSet|recentUpdate|recentRemove) != 0
}

// matchRecent is recent_mt.
func matchRecent(c *call) (bool, error) {
	d := decodeRecent(c.info, c.rev, c.family)
	a := c.p.Src()
	if d.dest {
		a = c.p.Dst()
	}
	a = maskAddr(a, d.mask)
	stamps, ttl, found, err := c.recentStamps(d.name, a)
	if err != nil {
		return false, err
	}
	if found && d.set&recentTTL != 0 {
		found = c.recentTTL(ttl)
	}
	answer, touch := d.invert, false
	switch {
	case !found:
		if d.set&recentSet != 0 {
			answer, touch = !answer, true
		}
	case d.set&recentSet != 0:
		answer, touch = !answer, true
	case d.set&recentRemove != 0:
		answer = !answer
		c.p.Recent = append(c.p.Recent[:len(c.p.Recent):len(c.p.Recent)], skb.RecentTouch{List: d.name, Addr: a, Removed: true})
	default:
		hits := uint32(0)
		for _, age := range stamps {
			if d.seconds != 0 && age > int64(d.seconds)*1000 {
				continue
			}
			hits++
			if d.hits == 0 || hits >= d.hits {
				answer = !answer
				break
			}
		}
		touch = d.set&recentUpdate != 0 && answer
	}
	if touch {
		c.p.Recent = append(c.p.Recent[:len(c.p.Recent):len(c.p.Recent)], skb.RecentTouch{List: d.name, Addr: a})
	}
	switch {
	case d.set&(recentSet|recentRemove) != 0:
	case !found:
		c.explain("%s is not in recent list %s", a, d.name)
	case len(stamps) > 0:
		c.explain("%s is in recent list %s, last seen %d s ago", a, d.name, stamps[0]/1000)
	}
	return answer, nil
}

// recentStamps returns the ages of an address's stamps in a list, newest first, in milliseconds.
func (c *call) recentStamps(list string, a netip.Addr) (ages []int64, ttl uint8, found bool, err error) {
	entries, err := c.env.Recent(c.ctx, list, c.family)
	if err != nil && !errors.Is(err, node.ErrNotFound) {
		return nil, 0, false, err
	}
	for _, e := range entries {
		if e.Addr.Unmap() == a {
			ages, ttl, found = append(ages, e.AgesMillis...), e.TTL, true
			break
		}
	}
	for _, t := range c.p.Recent {
		if t.List != list || t.Addr != a {
			continue
		}
		if t.Removed {
			ages, ttl, found = nil, 0, false
		} else {
			// The kernel notes the packet's own TTL; 0 stands for any, and this packet's is its own.
			ages, ttl, found = append([]int64{0}, ages...), 0, true
		}
	}
	return ages, ttl, found, nil
}

// recentTTL compares the packet's TTL, as it was before forwarding, with the entry's.
func (c *call) recentTTL(ttl uint8) bool {
	if ttl == 0 {
		return true
	}
	t := c.ttl()
	if c.p.Out != "" && !c.p.Local {
		t = t.plus(1)
	}
	return c.decide(t.within(uint64(ttl), uint64(ttl)), fmt.Sprintf("the packet's TTL is %d as in the recent list", ttl))
}

// ttl returns the TTL or hop limit.
func (c *call) ttl() number {
	off := 8
	if c.family == skb.IPv6 {
		off = 7
	}
	return numberOf(c.network(off, 1))
}

func maskAddr(a netip.Addr, mask []byte) netip.Addr {
	b := a.AsSlice()
	for i := range b {
		if i < len(mask) {
			b[i] &= mask[i]
		}
	}
	m, ok := netip.AddrFromSlice(b)
	if !ok {
		return a
	}
	return m
}

func textRecent(w *writer, info []byte) {
	d := decodeRecent(info, w.rev, w.family)
	for _, o := range []struct {
		bit  uint8
		name string
	}{{recentSet, "--set"}, {recentCheck, "--rcheck"}, {recentUpdate, "--update"}, {recentRemove, "--remove"}} {
		if d.set&o.bit != 0 {
			w.inv(d.invert, o.name)
		}
	}
	w.flag(d.seconds != 0, "--seconds", fmt.Sprint(d.seconds))
	w.flag(d.set&recentReap != 0, "--reap")
	w.flag(d.hits != 0, "--hitcount", fmt.Sprint(d.hits))
	w.flag(d.set&recentTTL != 0, "--rttl")
	if d.name != "" {
		w.word("--name", d.name)
	}
	if w.rev == 1 {
		w.word("--mask", addrText(d.mask))
	}
	if d.dest {
		w.word("--rdest")
	} else {
		w.word("--rsource")
	}
}
