//go:build linux

package rtnl

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/fib"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// fibSysctls reads the sysctls that take part in routing, and the multicast groups, of the calling thread's namespace.
func fibSysctls(s *fib.State) error {
	var c sysctls
	s.All4, s.All6 = c.conf4("all"), c.conf6("all")
	for i := range s.Interfaces {
		l := &s.Interfaces[i]
		l.IPv4, l.IPv6 = c.conf4(l.Name), c.conf6(l.Name)
	}
	s.HashPolicy4, s.HashFields4 = c.number("ipv4/fib_multipath_hash_policy"), c.number("ipv4/fib_multipath_hash_fields")
	s.HashPolicy6, s.HashFields6 = c.number("ipv6/fib_multipath_hash_policy"), c.number("ipv6/fib_multipath_hash_fields")
	if c.err != nil {
		return &node.ReadError{What: "the sysctls of routing", Err: c.err}
	}
	if err := groups4(s); err != nil {
		return &node.ReadError{What: "the multicast groups", Err: err}
	}
	return nil
}

// sysctls reads numbers under /proc/sys/net and keeps the first error. A missing one is 0: the kernel does not have it.
type sysctls struct{ err error }

func (c *sysctls) number(name string) int {
	b, err := os.ReadFile("/proc/sys/net/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	n := 0
	if err == nil {
		n, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err != nil && c.err == nil {
		c.err = err
	}
	return n
}

func (c *sysctls) conf4(dev string) fib.Conf4 {
	on := func(name string) bool { return c.number("ipv4/conf/"+dev+"/"+name) != 0 }
	return fib.Conf4{
		Forwarding: on("forwarding"), BCForwarding: on("bc_forwarding"), AcceptLocal: on("accept_local"),
		RouteLocalnet: on("route_localnet"), SrcValidMark: on("src_valid_mark"),
		IgnoreLinkdown: on("ignore_routes_with_linkdown"), MulticastForward: on("mc_forwarding"),
		SendRedirects: on("send_redirects"), RPFilter: c.number("ipv4/conf/" + dev + "/rp_filter"),
	}
}

func (c *sysctls) conf6(dev string) fib.Conf6 {
	on := func(name string) bool { return c.number("ipv6/conf/"+dev+"/"+name) != 0 }
	return fib.Conf6{
		Forwarding: on("forwarding"), ForceForwarding: on("force_forwarding"), Disabled: on("disable_ipv6"),
		IgnoreLinkdown: on("ignore_routes_with_linkdown"), OutAddrsOnly: on("use_oif_addrs_only"),
		UseOptimistic: on("use_optimistic"), UseTempAddr: c.number("ipv6/conf/" + dev + "/use_tempaddr"),
	}
}

// groups4 reads /proc/net/igmp: a line for each interface, then one for each of its groups, which begins with a tab and
// the address as a hexadecimal number of the machine's order.
func groups4(s *fib.State) error {
	b, err := os.ReadFile("/proc/thread-self/net/igmp")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var at *fib.Interface
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if !strings.HasPrefix(line, "\t") {
			index, err := strconv.Atoi(fields[0])
			if err != nil {
				continue // the heading
			}
			at = nil
			for i := range s.Interfaces {
				if s.Interfaces[i].Index == index {
					at = &s.Interfaces[i]
				}
			}
			continue
		}
		raw, err := hex.DecodeString(fields[0])
		if err != nil || len(raw) != 4 || at == nil {
			continue
		}
		var addr [4]byte
		binary.NativeEndian.PutUint32(addr[:], binary.BigEndian.Uint32(raw))
		at.Groups = append(at.Groups, netip.AddrFrom4(addr))
	}
	return nil
}
