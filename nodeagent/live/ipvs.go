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
func (n *Namespace) VirtualServer(_ context.Context, proto uint8, dst netip.AddrPort, mark uint32) (bool, error) {
	f, err := os.Open(ipvsTable)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, &node.ReadError{What: "the IPVS table", Err: err}
	}
	defer f.Close()
	found, size, err := findVirtualServer(f, proto, dst, mark)
	n.count.Add(size)
	if err != nil {
		return false, &node.ReadError{What: "the IPVS table", Err: err}
	}
	return found, nil
}

// findVirtualServer reads /proc/net/ip_vs (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show): three lines of headings,
// then a line for each virtual server and, behind "->", for each of its destinations.
func findVirtualServer(r io.Reader, proto uint8, dst netip.AddrPort, mark uint32) (found bool, size int, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		size += len(lines.Bytes()) + 1
		f := strings.Fields(lines.Text())
		if len(f) < 3 || f[0] == "->" || f[0] == "IP" || f[0] == "Prot" {
			continue
		}
		if f[0] == "FWM" {
			m, err := strconv.ParseUint(f[1], 16, 32)
			if err != nil {
				return false, size, fmt.Errorf("a mark %q: %w", f[1], err)
			}
			found = found || uint32(m) == mark && mark != 0
			continue
		}
		if !strings.EqualFold(f[0], skb.ProtoName(proto)) {
			continue
		}
		at, err := parseIPVSAddress(f[1])
		if err != nil {
			return false, size, err
		}
		// A virtual server on port 0 takes every port that has none of its own.
		found = found || at == dst || at.Addr() == dst.Addr() && at.Port() == 0
	}
	return found, size, lines.Err()
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
