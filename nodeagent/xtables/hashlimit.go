package xtables

import (
	"fmt"
	"strings"
)

// Modes of a hashlimit configuration (XT_HASHLIMIT_…).
const (
	hashDstIP     = 1 << 0
	hashDstPort   = 1 << 1
	hashSrcIP     = 1 << 2
	hashSrcPort   = 1 << 3
	hashInvert    = 1 << 4
	hashBytes     = 1 << 5
	hashRateMatch = 1 << 6
)

// hashlimitInfo is struct hashlimit_cfg1 to 3 with the name.
type hashlimitInfo struct {
	name                  string
	avg, burst            uint64
	mode                  uint32
	size, max, gc, expire uint32
	interval              uint32
	srcMask, dstMask      uint8
	scale                 uint64
}

func decodeHashlimit(rev uint8, info []byte) hashlimitInfo {
	if rev == 1 {
		return hashlimitInfo{name: cstring(info[:16]), mode: u32(info, 16), avg: uint64(u32(info, 20)), burst: uint64(u32(info, 24)),
			size: u32(info, 28), max: u32(info, 32), gc: u32(info, 36), expire: u32(info, 40), srcMask: info[44], dstMask: info[45],
			scale: 10000}
	}
	d := hashlimitInfo{name: cstring(info[:255]), avg: u64(info, 256), burst: u64(info, 264), mode: u32(info, 272),
		size: u32(info, 276), max: u32(info, 280), gc: u32(info, 284), expire: u32(info, 288), scale: 1000000}
	if rev == 2 {
		d.srcMask, d.dstMask = info[292], info[293]
	} else {
		d.interval, d.srcMask, d.dstMask = u32(info, 292), info[296], info[297]
	}
	return d
}

// Values that iptables leaves out when it prints: the garbage collection interval in ms, and the time after which
// entries of byte rates expire, in seconds.
const (
	hashlimitGC          = 1000
	hashlimitBytes       = 15
	hashlimitBytesBurst  = 60
	hashlimitByteShift   = 4
	hashlimitRateSeconds = 1
)

// rate prints the rate and burst; quantum is the expiry in ms that goes with it.
func (d hashlimitInfo) rate() (text, burst string, quantum uint64) {
	if d.mode&hashBytes == 0 {
		text, seconds := rateText(d.avg, d.scale)
		return text, fmt.Sprint(d.burst), seconds * 1000
	}
	units := []struct {
		name string
		size uint64
	}{{"m", 1 << 20}, {"k", 1 << 10}, {"", 1}}
	r := uint64(1<<32 - 1)
	if d.avg != 0 {
		r /= d.avg
	}
	r = uint64(uint32((r - 1) << hashlimitByteShift))
	cost := func(bytes uint64) uint64 { return (1<<32 - 1) / (bytes>>hashlimitByteShift + 1) }
	i := 0
	for ; i < len(units)-1; i++ {
		if r >= units[i].size && cost(r&^(units[i].size-1)) == d.avg {
			break
		}
	}
	text = fmt.Sprintf("%d%sb/s", r/units[i].size, units[i].name)
	if d.burst == 0 {
		return text, "", hashlimitBytes * 1000
	}
	r *= d.burst
	for i = 0; i < len(units)-1; i++ {
		if r >= units[i].size {
			break
		}
	}
	return text, fmt.Sprintf("%d%sb", r/units[i].size, units[i].name), hashlimitBytesBurst * 1000
}

func (d hashlimitInfo) modes() string {
	var out []string
	for _, m := range []struct {
		bit  uint32
		name string
	}{{hashSrcIP, "srcip"}, {hashSrcPort, "srcport"}, {hashDstIP, "dstip"}, {hashDstPort, "dstport"}} {
		if d.mode&m.bit != 0 {
			out = append(out, m.name)
		}
	}
	return strings.Join(out, ",")
}

func matchHashlimit(c *call) (bool, error) {
	d := decodeHashlimit(c.rev, c.info)
	rate, burst, _ := d.rate()
	by := ""
	if m := d.modes(); m != "" {
		by = " by " + m
	}
	if burst != "" {
		burst = ", burst " + burst
	}
	return c.depends("hash limit %s: %s%s%s not exceeded", d.name, rate, burst, by) != (d.mode&hashInvert != 0), nil
}

func textHashlimit(w *writer, info []byte) {
	d := decodeHashlimit(w.rev, info)
	rate, burst, quantum := d.rate()
	if d.mode&hashInvert != 0 {
		w.word("--hashlimit-above", rate)
	} else {
		w.word("--hashlimit-upto", rate)
	}
	w.flag(burst != "", "--hashlimit-burst", burst)
	if m := d.modes(); m != "" {
		w.word("--hashlimit-mode", m)
	}
	w.word("--hashlimit-name", d.name)
	w.flag(d.size != 0, "--hashlimit-htable-size", fmt.Sprint(d.size))
	w.flag(d.max != 0, "--hashlimit-htable-max", fmt.Sprint(d.max))
	w.flag(d.gc != hashlimitGC, "--hashlimit-htable-gcinterval", fmt.Sprint(d.gc))
	w.flag(uint64(d.expire) != quantum, "--hashlimit-htable-expire", fmt.Sprint(d.expire))
	full := uint8(8 * len(w.addrBytes(make([]byte, 16))))
	w.flag(d.srcMask != full, "--hashlimit-srcmask", fmt.Sprint(d.srcMask))
	w.flag(d.dstMask != full, "--hashlimit-dstmask", fmt.Sprint(d.dstMask))
	if w.rev == 3 && d.mode&hashRateMatch != 0 {
		w.word("--hashlimit-rate-match")
		w.flag(d.interval != hashlimitRateSeconds, "--hashlimit-rate-interval", fmt.Sprint(d.interval))
	}
}
