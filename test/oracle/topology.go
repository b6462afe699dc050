//go:build linux

package oracle

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// ports are the node's interfaces that have a far end, in the order they are made.
var ports = []string{"ext", "eth1", "p1", "p2", "p3"}

// baseSysctls make a node that forwards, has no reverse path filter, and never holds an ICMP error back. Names have
// slashes.
var baseSysctls = []string{
	"net/ipv4/ip_forward=1",
	"net/ipv6/conf/all/forwarding=1",
	"net/ipv4/conf/all/rp_filter=0",
	"net/ipv4/conf/default/rp_filter=0",
	"net/ipv4/conf/all/send_redirects=0",
	"net/ipv4/conf/default/send_redirects=0",
	"net/ipv4/conf/all/route_localnet=0",
	"net/ipv4/conf/default/route_localnet=0",
	"net/ipv4/conf/all/accept_local=0",
	"net/ipv4/conf/default/accept_local=0",
	"net/ipv4/conf/all/src_valid_mark=0",
	"net/ipv4/conf/default/src_valid_mark=0",
	"net/ipv4/icmp_ratelimit=0",
	"net/ipv4/icmp_ratemask=0",
	"net/ipv6/icmp/ratelimit=0",
	"net/ipv6/conf/default/accept_ra=0",
}

// optionalSysctls are set where the kernel has them.
var optionalSysctls = []string{
	"net/ipv4/icmp_msgs_per_sec=1000000",
	"net/ipv4/icmp_msgs_burst=1000000",
}

// mac returns the hardware address of the node's end (far false) or the far end of a port.
func mac(port int, far bool) [6]byte {
	m := [6]byte{2, 0, 0, 0, 0, byte(port + 1)}
	if far {
		m[4] = 1
	}
	return m
}

// bridgeMAC is the hardware address of the bridge in cases that have one.
var bridgeMAC = [6]byte{2, 0, 0, 0, 2, 0}

func macText(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// baseLinks is the ip batch that makes the node's interfaces, addresses and routes. Interfaces resolve no neighbours
// (arp off): every next hop is reachable at once, so a packet leaves where the routing decision sends it.
func baseLinks(generation, farThread int) string {
	var b strings.Builder
	b.WriteString("link set lo up\n")
	for i, p := range ports {
		fmt.Fprintf(&b, "link add %s address %s type veth peer name %s address %s netns %d\n",
			p, macText(mac(i, false)), farName(generation, i), macText(mac(i, true)), farThread)
		fmt.Fprintf(&b, "link set %s up arp off\n", p)
	}
	for _, l := range []string{
		"addr add 192.0.2.1/24 dev ext",
		"addr add 2001:db8:1::1/64 dev ext nodad",
		"addr add 198.51.100.1/24 dev eth1",
		"addr add 2001:db8:2::1/64 dev eth1 nodad",
	} {
		fmt.Fprintln(&b, l)
	}
	for i := range 3 {
		fmt.Fprintf(&b, "addr add 10.244.1.1/32 dev p%d\n", i+1)
		fmt.Fprintf(&b, "addr add fd00:10:244:1::1/128 dev p%d nodad\n", i+1)
		fmt.Fprintf(&b, "route add 10.244.1.1%d/32 dev p%d\n", i+1, i+1)
		fmt.Fprintf(&b, "route add fd00:10:244:1::1%d/128 dev p%d\n", i+1, i+1)
	}
	for _, l := range []string{
		"route add default via 192.0.2.254 dev ext",
		"route add default via 2001:db8:1::fe dev ext",
		"route add 10.244.2.0/24 via 192.0.2.2 dev ext",
		"route add fd00:10:244:2::/64 via 2001:db8:1::2 dev ext",
		"route add 10.244.3.0/24 via 198.51.100.2 dev eth1",
		"route add fd00:10:244:3::/64 via 2001:db8:2::2 dev eth1",
	} {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}

// farLinks is the ip batch that brings the far ends up.
func farLinks(generation int) string {
	var b strings.Builder
	for i := range ports {
		fmt.Fprintf(&b, "link set %s up arp off addrgenmode none promisc on\n", farName(generation, i))
	}
	return b.String()
}

func farName(generation, port int) string { return fmt.Sprintf("f%d.%s", generation, ports[port]) }

// awaitRunning waits until the calling thread's interfaces, named by the index of their port, carry packets. The kernel
// makes them do so a moment after both ends are up, and until then discards what they are given to send.
func awaitRunning(name func(port int) string) error {
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(time.Millisecond) {
		all, err := net.Interfaces()
		if err != nil {
			return fmt.Errorf("listing interfaces: %w", err)
		}
		running := map[string]bool{}
		for _, i := range all {
			running[i.Name] = i.Flags&net.FlagRunning != 0
		}
		ready := true
		for i := range ports {
			ready = ready && running[name(i)]
		}
		if ready {
			return nil
		}
	}
	return errors.New("the interfaces do not come up")
}

// awaitAddresses waits until the calling thread's namespace knows its IPv6 addresses as local: the kernel adds their
// routes from a work queue.
func awaitAddresses() error {
	const local = 1 << 31 // RTF_LOCAL (include/uapi/linux/ipv6_route.h)
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile("/proc/thread-self/net/ipv6_route")
		if err != nil {
			return err
		}
		known := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) >= 10 && f[1] == "80" {
				flags, err := strconv.ParseUint(f[8], 16, 32)
				known[f[0]] = known[f[0]] || err == nil && flags&local != 0
			}
		}
		ready := true
		for _, a := range pool6.nodes {
			ready = ready && known[hex.EncodeToString(a.AsSlice())]
		}
		if ready {
			return nil
		}
	}
	return errors.New("the IPv6 addresses do not become local")
}

// writeSysctls writes name=value lines under /proc/sys of the calling thread's namespace.
func writeSysctls(lines []string) error {
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if l == "" {
			continue
		}
		name, value, ok := strings.Cut(l, "=")
		if !ok || strings.Contains(name, "..") || !strings.HasPrefix(name, "net/") {
			return fmt.Errorf("sysctl %q is not net/name=value", l)
		}
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
			return fmt.Errorf("sysctl %s: %w", l, err)
		}
	}
	return nil
}
