package xtables

import (
	"fmt"
	"strings"
)

// sctpInfoSize is sizeof(struct xt_sctp_info).
const sctpInfoSize = 292

// Offsets in struct xt_sctp_info, its flags, and how chunk types are matched.
const (
	sctpDst, sctpSrc, sctpMap, sctpHow            = 0, 4, 8, 264
	sctpFlagInfo, sctpFlagCount                   = 268, 280
	sctpFlags, sctpInvFlags                       = 284, 288
	sctpSrcPorts, sctpDstPorts, sctpChunks        = 1, 2, 4
	sctpMatchAny, sctpMatchAll, sctpMatchOnly     = 1, 2, 4
	sctpHeader, sctpChunkInit, sctpChunkFlagInfos = 12, 1, 4
)

// matchSCTP is sctp_mt. Of a new flow the first chunk is known to be INIT, and RFC 9260 (3.3.2) allows no other chunk
// beside it.
func matchSCTP(c *call) (bool, error) {
	flags, inv := u32(c.info, sctpFlags), u32(c.info, sctpInvFlags)
	if c.decide(fragment(c.p), "the packet is a further fragment") {
		return false, nil
	}
	src, dst := c.ports()
	if flags&sctpSrcPorts != 0 && c.portIn(src, "source", u16(c.info, sctpSrc), u16(c.info, sctpSrc+2)) == (inv&sctpSrcPorts != 0) {
		return false, nil
	}
	if flags&sctpDstPorts != 0 && c.portIn(dst, "destination", u16(c.info, sctpDst), u16(c.info, sctpDst+2)) == (inv&sctpDstPorts != 0) {
		return false, nil
	}
	if flags&sctpChunks != 0 {
		return c.decide(c.sctpChunksMatch(), "sctp chunks "+sctpChunkText(c.info)) != (inv&sctpChunks != 0), nil
	}
	return true, nil
}

// sctpChunksMatch is match_packet for a packet whose only chunk is known, and maybe for others.
func (c *call) sctpChunksMatch() tri {
	v, k := c.transport(sctpHeader, 2)
	if k[0] != 0xff || v[0] != sctpChunkInit {
		return maybe
	}
	flagged := yes
	for i := range min(int(int32(u32(c.info, sctpFlagCount))), sctpChunkFlagInfos) {
		f := c.info[sctpFlagInfo+3*i:]
		if f[0] == v[0] {
			flagged = same(v[1:2], k[1:2], f[2:3], f[1:2])
			break
		}
	}
	in := triOf(sctpChunkSet(c.info, v[0]))
	switch u32(c.info, sctpHow) {
	case sctpMatchAny, sctpMatchOnly:
		return both(in, flagged)
	case sctpMatchAll:
		for typ := range 256 {
			if typ != int(v[0]) && sctpChunkSet(c.info, byte(typ)) {
				return no
			}
		}
		if in == no {
			return yes // nothing is asked for
		}
		return flagged
	}
	return no
}

func sctpChunkSet(info []byte, typ byte) bool {
	return u32(info, sctpMap+4*int(typ/32))&(1<<(typ%32)) != 0
}

var sctpChunkNames = [256]string{0: "DATA", 1: "INIT", 2: "INIT_ACK", 3: "SACK", 4: "HEARTBEAT", 5: "HEARTBEAT_ACK", 6: "ABORT",
	7: "SHUTDOWN", 8: "SHUTDOWN_ACK", 9: "ERROR", 10: "COOKIE_ECHO", 11: "COOKIE_ACK", 12: "ECN_ECNE", 13: "ECN_CWR",
	14: "SHUTDOWN_COMPLETE", 64: "I_DATA", 130: "RE_CONFIG", 132: "PAD", 193: "ASCONF", 128: "ASCONF_ACK", 192: "FORWARD_TSN", 194: "I_FORWARD_TSN"}

// sctpFlagLetters are the chunk flags that iptables names, by chunk type, from bit 7 down to bit 0.
var sctpFlagLetters = [256]string{0: "----IUBE", 64: "----IUBE", 6: "-------T", 14: "-------T"}

func sctpChunkText(info []byte) string {
	how := map[uint32]string{sctpMatchAny: "any", sctpMatchAll: "all", sctpMatchOnly: "only"}[u32(info, sctpHow)]
	var list []string
	all := true
	for typ := range 256 {
		if !sctpChunkSet(info, byte(typ)) {
			all = false
			continue
		}
		name := sctpChunkNames[typ]
		if name == "" {
			continue
		}
		list = append(list, name+sctpFlagText(info, typ))
	}
	if all {
		return how + " ALL"
	}
	if len(list) == 0 {
		return how + " NONE"
	}
	return how + " " + strings.Join(list, ",")
}

func sctpFlagText(info []byte, typ int) string {
	for i := range min(int(int32(u32(info, sctpFlagCount))), sctpChunkFlagInfos) {
		f := info[sctpFlagInfo+3*i:]
		if int(f[0]) != typ {
			continue
		}
		s := ""
		letters := sctpFlagLetters[typ]
		for bit := 7; bit >= 0; bit-- {
			if f[2]&(1<<bit) == 0 {
				continue
			}
			letter := fmt.Sprint(bit)
			if letters != "" {
				letter = letters[7-bit : 8-bit]
			}
			if f[1]&(1<<bit) == 0 {
				letter = strings.ToLower(letter)
			}
			s += letter
		}
		if s != "" {
			return ":" + s
		}
	}
	return ""
}

func textSCTP(w *writer, info []byte) {
	flags, inv := u32(info, sctpFlags), u32(info, sctpInvFlags)
	if flags&sctpSrcPorts != 0 {
		w.inv(inv&sctpSrcPorts != 0, "--sport", span(uint64(u16(info, sctpSrc)), uint64(u16(info, sctpSrc+2))))
	}
	if flags&sctpDstPorts != 0 {
		w.inv(inv&sctpDstPorts != 0, "--dport", span(uint64(u16(info, sctpDst)), uint64(u16(info, sctpDst+2))))
	}
	if flags&sctpChunks != 0 {
		w.inv(inv&sctpChunks != 0, "--chunk-types", sctpChunkText(info))
	}
}

// Flags of struct xt_dccp_info.
const (
	dccpSrcPorts = 1
	dccpDstPorts = 2
	dccpType     = 4
	dccpOption   = 8
)

// matchDCCP is dccp_mt: ports are exact, the packet type is in 4 bits of the header, options are not described.
func matchDCCP(c *call) (bool, error) {
	flags, inv := u16(c.info, 8), u16(c.info, 10)
	if c.decide(fragment(c.p), "the packet is a further fragment") {
		return false, nil
	}
	src, dst := c.ports()
	if flags&dccpSrcPorts != 0 && c.portIn(src, "source", u16(c.info, 4), u16(c.info, 6)) == (inv&dccpSrcPorts != 0) {
		return false, nil
	}
	if flags&dccpDstPorts != 0 && c.portIn(dst, "destination", u16(c.info, 0), u16(c.info, 2)) == (inv&dccpDstPorts != 0) {
		return false, nil
	}
	if flags&dccpType != 0 {
		v, k := c.transport(8, 1)
		t := maybe
		if k[0]&0x1e == 0x1e {
			t = triOf(u16(c.info, 12)&(1<<(v[0]>>1&15)) != 0)
		}
		if c.decide(t, "dccp type "+dccpTypes(u16(c.info, 12))) == (inv&dccpType != 0) {
			return false, nil
		}
	}
	if flags&dccpOption != 0 && c.depends("the packet has DCCP option %d", c.info[14]) == (inv&dccpOption != 0) {
		return false, nil
	}
	return true, nil
}

func dccpTypes(mask uint16) string {
	var out []string
	for i, n := range []string{"REQUEST", "RESPONSE", "DATA", "ACK", "DATAACK", "CLOSEREQ", "CLOSE", "RESET", "SYNC", "SYNCACK", "INVALID"} {
		if mask&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return strings.Join(out, ",")
}

func textDCCP(w *writer, info []byte) {
	flags, inv := u16(info, 8), u16(info, 10)
	if flags&dccpSrcPorts != 0 {
		w.inv(inv&dccpSrcPorts != 0, "--sport", span(uint64(u16(info, 4)), uint64(u16(info, 6))))
	}
	if flags&dccpDstPorts != 0 {
		w.inv(inv&dccpDstPorts != 0, "--dport", span(uint64(u16(info, 0)), uint64(u16(info, 2))))
	}
	if flags&dccpType != 0 {
		w.inv(inv&dccpType != 0, "--dccp-types", dccpTypes(u16(info, 12)))
	}
	if flags&dccpOption != 0 {
		w.inv(inv&dccpOption != 0, "--dccp-option", fmt.Sprint(info[14]))
	}
}
