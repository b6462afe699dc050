//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
)

// flowState is a connection tracking table with many flows, a hundred to each of many Services.
type flowState struct {
	family string // ipv4 or ipv6
	flows  int
}

// flowsEach is the number of flows to each Service.
const flowsEach = 100

// mostFlows bounds a table: each flow takes about 0.4 KB of the kernel's memory.
const mostFlows = 1_000_000

// parseFlows reads numbers of flows, and makes a table of each family of each.
func parseFlows(list string) ([]flowState, error) {
	var out []flowState
	for f := range strings.SplitSeq(list, ",") {
		if f = strings.TrimSpace(f); f == "" {
			continue
		}
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > mostFlows {
			return nil, fmt.Errorf("%q is not a number of flows", f)
		}
		out = append(out, flowState{"ipv4", n}, flowState{"ipv6", n})
	}
	return out, nil
}

// address is the n-th of a kind: 10.96.0.0/16 for Services, 10.128.0.0/16 for endpoints, 10.200.0.0/16 for clients, and the
// same under fd00:: for IPv6.
func (s flowState) address(kind byte, n int) netip.Addr {
	a := netip.AddrFrom4([4]byte{10, kind, byte(n >> 8), byte(n)})
	if s.family == "ipv4" {
		return a
	}
	b := netip.MustParseAddr("fd00::").As16()
	copy(b[12:], a.AsSlice())
	return netip.AddrFrom16(b)
}

// target is the Service whose flows are asked for: the last one.
func (s flowState) target() netip.AddrPort {
	return netip.AddrPortFrom(s.address(96, s.services()), 80)
}

func (s flowState) services() int { return max(1, s.flows/flowsEach) }

// make writes the flows into the calling thread's network namespace, as conntrack -I would.
func (s flowState) make(ctx context.Context) error {
	sock, err := nlsock.Open(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer sock.Close()
	for i := range s.flows {
		service := i%s.services() + 1
		client := netip.AddrPortFrom(s.address(200, i/60000), uint16(1024+i%60000))
		vip := netip.AddrPortFrom(s.address(96, service), 80)
		endpoint := netip.AddrPortFrom(s.address(128, service), 8080)
		if err := sock.Do(ctx, newFlow, unix.NLM_F_CREATE|unix.NLM_F_EXCL, s.entry(client, vip, endpoint, uint16(i/s.services()%zones)), nil); err != nil {
			return fmt.Errorf("making flow %d of %d: %w", i+1, s.flows, err)
		}
	}
	return nil
}

const (
	newFlow     = unix.NFNL_SUBSYS_CTNETLINK << 8 // IPCTNL_MSG_CT_NEW
	established = 3                               // enum tcp_conntrack
	// IPS_SEEN_REPLY, IPS_ASSURED and IPS_CONFIRMED: what the kernel lets netlink set.
	statusOpen = 1<<1 | 1<<2 | 1<<3
)

// zones is how many zones the flows of each Service are in, as with a CNI that keeps tenants apart: 0, 1, 2.
const zones = 3

// entry is an established TCP connection that is translated to an endpoint (nfnetlink_conntrack.h).
func (s flowState) entry(client, vip, endpoint netip.AddrPort, zone uint16) []byte {
	family := byte(unix.AF_INET)
	if s.family == "ipv6" {
		family = unix.AF_INET6
	}
	b := []byte{family, 0, 0, 0}
	b = nlattr.Append(b, 1|nlattr.Nested, tuple(client, vip))
	b = nlattr.Append(b, 2|nlattr.Nested, tuple(endpoint, client))
	b = nlattr.Append(b, 3, nlattr.BigUint32(statusOpen))
	b = nlattr.Append(b, 7, nlattr.BigUint32(86400))
	if zone != 0 {
		b = nlattr.Append(b, 18, nlattr.BigUint16(zone))
	}
	state := nlattr.Append(nil, 1|nlattr.Nested, nlattr.Append(nil, 1, []byte{established}))
	return nlattr.Append(b, 4|nlattr.Nested, state)
}

func tuple(src, dst netip.AddrPort) []byte {
	from, to := uint16(1), uint16(2) // CTA_IP_V4_SRC, CTA_IP_V4_DST
	if src.Addr().Is6() {
		from, to = 3, 4
	}
	ip := nlattr.Append(nlattr.Append(nil, from, src.Addr().AsSlice()), to, dst.Addr().AsSlice())
	proto := nlattr.Append(nil, 1, []byte{unix.IPPROTO_TCP})
	proto = nlattr.Append(nlattr.Append(proto, 2, nlattr.BigUint16(src.Port())), 3, nlattr.BigUint16(dst.Port()))
	return nlattr.Append(nlattr.Append(nil, 1|nlattr.Nested, ip), 2|nlattr.Nested, proto)
}

// maxFile bounds the number of flows of every network namespace. Only the first one's file may be written.
const maxFile = "/proc/sys/net/netfilter/nf_conntrack_max"

// allowFlows raises the kernel's bound where it is lower than what the state needs, and returns what puts it back.
func allowFlows(flows int) (restore func() error, err error) {
	b, err := os.ReadFile(maxFile)
	if err != nil {
		return nil, err
	}
	was, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, err
	}
	need := flows + flows/10 // the kernel begins to drop flows before the table is full
	if was >= need {
		return func() error { return nil }, nil
	}
	err = os.WriteFile(maxFile, []byte(strconv.Itoa(need)), 0o644)
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w: run it in the machine's first network namespace, or set net.netfilter.nf_conntrack_max to %d there", err, need)
	}
	return func() error { return os.WriteFile(maxFile, b, 0o644) }, err
}
