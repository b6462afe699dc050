//go:build linux

package live

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// ipvsTable lists the virtual servers of the thread's network namespace; a kernel without IPVS does not have it.
const ipvsTable = "/proc/thread-self/net/ip_vs"

// VirtualServer tells whether IPVS has a virtual server for a destination, or for the packet's mark.
func (n *Namespace) VirtualServer(_ context.Context, proto uint8, dst netip.AddrPort, mark uint32) (found bool, err error) {
	err = n.eachIPVS(func(e ipvsEntry) { found = found || e.takes(proto, dst, mark) })
	return found, err
}

// RealServer tells whether a virtual server of IPVS sends connections to an address and translates what comes back; a port
// of 0, here or there, is any.
func (n *Namespace) RealServer(_ context.Context, proto uint8, src netip.AddrPort) (found bool, err error) {
	err = n.eachIPVS(func(e ipvsEntry) { found = found || e.answersFrom(proto, src) })
	return found, err
}

// ipvsEntry is a virtual server, by its protocol and address or by a mark, or one of its destinations (real).
type ipvsEntry struct {
	real   bool
	masq   bool // of a destination: it is reached by translation
	proto  uint8
	fwmark uint32
	at     netip.AddrPort
}

// takes tells whether it is a virtual server for a packet. One on port 0 takes every port that has none of its own.
func (e ipvsEntry) takes(proto uint8, dst netip.AddrPort, mark uint32) bool {
	switch {
	case e.real:
		return false
	case e.fwmark != 0:
		return e.fwmark == mark
	}
	return e.proto == proto && (e.at == dst || e.at.Addr() == dst.Addr() && e.at.Port() == 0)
}

// answersFrom tells whether it is a destination whose answers are translated, and the packet may be one.
func (e ipvsEntry) answersFrom(proto uint8, src netip.AddrPort) bool {
	return e.real && e.masq && (e.fwmark != 0 || e.proto == proto) && e.at.Addr() == src.Addr() &&
		(e.at.Port() == src.Port() || e.at.Port() == 0 || src.Port() == 0)
}

func (n *Namespace) eachIPVS(f func(ipvsEntry)) error {
	file, err := os.Open(ipvsTable)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	size := 0
	if err == nil {
		defer file.Close()
		size, err = parseIPVS(file, f)
		n.count.Add(size)
	}
	if err != nil {
		return &node.ReadError{What: "the IPVS table", Err: err}
	}
	return nil
}

// parseIPVS reads /proc/net/ip_vs (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show): three lines of headings, then a line
// for each virtual server and, behind "->", for each of its destinations. It returns the number of bytes read.
func parseIPVS(r io.Reader, f func(ipvsEntry)) (size int, err error) {
	lines := bufio.NewScanner(r)
	var of ipvsEntry
	for lines.Scan() {
		size += len(lines.Bytes()) + 1
		w := strings.Fields(lines.Text())
		if len(w) < 2 || w[0] == "IP" || w[0] == "Prot" || w[1] == "RemoteAddress:Port" {
			continue
		}
		e := ipvsEntry{}
		switch w[0] {
		case "->":
			e = of
			e.real, e.masq = true, len(w) > 2 && w[2] == "Masq"
			e.at, err = parseIPVSAddress(w[1])
		case "FWM":
			var m uint64
			m, err = strconv.ParseUint(w[1], 16, 32)
			e.fwmark = uint32(m)
			of = e
		default:
			e.proto = ipvsProtocol(w[0])
			e.at, err = parseIPVSAddress(w[1])
			of = e
		}
		if err != nil {
			return size, fmt.Errorf("the line %q: %w", lines.Text(), err)
		}
		f(e)
	}
	return size, lines.Err()
}

// ipvsProtocol is the number of a protocol that IPVS knows; 0 for another.
func ipvsProtocol(name string) uint8 {
	for _, p := range []uint8{skb.TCP, skb.UDP, skb.SCTP} {
		if strings.EqualFold(name, skb.ProtoName(p)) {
			return p
		}
	}
	return 0
}

// parseIPVSAddress reads "0A600019:0050" or "[2001:0db8:…]:0050".
func parseIPVSAddress(s string) (netip.AddrPort, error) {
	bad := func(err error) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("an address %q: %w", s, err)
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return bad(errors.New("it has no port"))
	}
	port, err := strconv.ParseUint(s[i+1:], 16, 16)
	if err != nil {
		return bad(err)
	}
	if text, ok := strings.CutPrefix(s[:i], "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(text, "]"))
		if err != nil {
			return bad(err)
		}
		return netip.AddrPortFrom(a, uint16(port)), nil
	}
	b, err := hex.DecodeString(s[:i])
	if err != nil || len(b) != 4 {
		return bad(errors.New("it is not four bytes"))
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), uint16(port)), nil
}
