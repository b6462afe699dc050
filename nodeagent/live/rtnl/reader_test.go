//go:build linux

package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// open makes a network namespace with the given ip commands and a reader in it. The thread is not given back.
func open(t *testing.T, commands ...string) *Reader {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
	for _, c := range append([]string{
		"link set lo up",
		"link add eth0 type veth peer name peer0", "link set eth0 up", "link set peer0 up",
		"addr add 10.250.0.11/24 dev eth0", "-6 addr add fd00:250::11/64 dev eth0 nodad",
	}, commands...) {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", c, err, out)
		}
	}
	// The kernel makes an IPv6 address's local route a moment later.
	for i := 0; ; i++ {
		out, err := exec.Command("ip", "-6", "route", "show", "table", "local", "fd00:250::11").CombinedOutput()
		if err == nil && len(out) > 0 {
			break
		}
		if i == 200 {
			t.Fatalf("fd00:250::11 has no local route: %v: %s", err, out)
		}
		time.Sleep(10 * time.Millisecond)
	}
	r, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestRoute(t *testing.T) {
	r := open(t,
		"route add default via 10.250.0.1", "-6 route add default via fd00:250::1",
		"route add 10.9.0.0/16 dev eth0 src 10.250.0.11", "route add 10.8.0.0/16 via 10.250.0.12 table 100",
		"rule add fwmark 0x8/0x8 lookup 100", "rule add ipproto tcp dport 8080 lookup 100",
		"route add blackhole 10.66.0.0/16", "route add unreachable 10.67.0.0/16", "route add prohibit 10.68.0.0/16",
		"-6 route add unreachable fd00:67::/64",
	)
	a := netip.MustParseAddr
	for name, c := range map[string]struct {
		q    node.RouteQuery
		want node.Route
		err  string
	}{
		"default":       {node.RouteQuery{Dst: a("1.2.3.4")}, node.Route{Type: 1, Out: "eth0", Gateway: a("10.250.0.1"), PrefSrc: a("10.250.0.11"), Table: 254}, ""},
		"on the link":   {node.RouteQuery{Dst: a("10.9.1.1")}, node.Route{Type: 1, Out: "eth0", PrefSrc: a("10.250.0.11"), Table: 254}, ""},
		"by mark":       {node.RouteQuery{Dst: a("10.8.1.1"), Mark: 8}, node.Route{Type: 1, Out: "eth0", Gateway: a("10.250.0.12"), PrefSrc: a("10.250.0.11"), Table: 100}, ""},
		"by port":       {node.RouteQuery{Dst: a("10.8.1.1"), Proto: 6, DstPort: 8080}, node.Route{Type: 1, Out: "eth0", Gateway: a("10.250.0.12"), PrefSrc: a("10.250.0.11"), Table: 100}, ""},
		"by other port": {node.RouteQuery{Dst: a("10.8.1.1"), Proto: 6, DstPort: 8081}, node.Route{Type: 1, Out: "eth0", Gateway: a("10.250.0.1"), PrefSrc: a("10.250.0.11"), Table: 254}, ""},
		"local":         {node.RouteQuery{Dst: a("10.250.0.11")}, node.Route{Type: 2, Out: "lo", PrefSrc: a("10.250.0.11"), Table: 255}, ""},
		"IPv6":          {node.RouteQuery{Dst: a("2001:db8::1")}, node.Route{Type: 1, Out: "eth0", Gateway: a("fd00:250::1"), PrefSrc: a("fd00:250::11"), Table: 254}, ""},
		"IPv6 local":    {node.RouteQuery{Dst: a("fd00:250::11")}, node.Route{Type: 2, Out: "lo", PrefSrc: a("fd00:250::11"), Table: 255}, ""},
		"blackhole":     {node.RouteQuery{Dst: a("10.66.0.1")}, node.Route{}, "EINVAL"},
		"unreachable":   {node.RouteQuery{Dst: a("10.67.0.1")}, node.Route{}, "EHOSTUNREACH"},
		"prohibited":    {node.RouteQuery{Dst: a("10.68.0.1")}, node.Route{}, "EACCES"},
		"IPv6 refused":  {node.RouteQuery{Dst: a("fd00:67::1")}, node.Route{}, "EHOSTUNREACH"},
		"a martian":     {node.RouteQuery{Dst: a("10.250.0.11"), Src: a("10.250.0.11"), In: "eth0"}, node.Route{}, "EINVAL"},
		"not forwarded": {node.RouteQuery{Dst: a("1.2.3.4"), Src: a("10.250.0.77"), In: "eth0"}, node.Route{}, "EHOSTUNREACH"},
		"input, local":  {node.RouteQuery{Dst: a("10.250.0.11"), Src: a("10.250.0.77"), In: "eth0"}, node.Route{Type: 2, Out: "lo", Table: 255}, ""},
		"input, IPv6":   {node.RouteQuery{Dst: a("fd00:250::11"), Src: a("fd00:250::77"), In: "eth0"}, node.Route{Type: 2, Out: "lo", Table: 255}, ""},
	} {
		got, err := r.Route(context.Background(), c.q)
		var refused *node.RouteError
		switch {
		case c.err != "":
			if !errors.As(err, &refused) || refused.Errno != c.err {
				t.Errorf("%s: got %+v, %v, want the error %s", name, got, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		default:
			got.PrefSrc, c.want.PrefSrc = got.PrefSrc.Unmap(), c.want.PrefSrc.Unmap()
			if c.q.In != "" {
				got.PrefSrc, got.Out = c.want.PrefSrc, c.want.Out
			}
			if d := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
				t.Errorf("%s (-want +got):\n%s", name, d)
			}
		}
	}
}

func TestAddrType(t *testing.T) {
	r := open(t, "addr add 10.77.0.1/32 dev lo", "route add local 10.99.0.0/16 dev lo", "route add default via 10.250.0.1", "-6 route add default via fd00:250::1")
	for _, c := range []struct {
		addr, dev string
		want      node.RouteType
	}{
		{"127.0.0.1", "", node.RouteLocal}, {"127.9.9.9", "", node.RouteLocal}, {"10.250.0.11", "", node.RouteLocal},
		{"10.77.0.1", "", node.RouteLocal}, {"10.99.1.2", "", node.RouteLocal}, {"10.250.0.255", "", node.RouteBroadcast},
		{"255.255.255.255", "", node.RouteBroadcast}, {"224.0.0.1", "", node.RouteMulticast}, {"10.250.0.12", "", node.RouteUnicast},
		{"1.2.3.4", "", node.RouteUnicast}, {"10.250.0.11", "eth0", node.RouteLocal}, {"10.77.0.1", "eth0", node.RouteUnicast},
		{"::1", "", node.RouteLocal}, {"fd00:250::11", "", node.RouteLocal}, {"fd00:250::12", "", node.RouteUnicast},
		{"ff02::1", "", node.RouteMulticast}, {"fd00:250::11", "eth0", node.RouteLocal},
	} {
		got, err := r.AddrType(context.Background(), netip.MustParseAddr(c.addr), c.dev)
		if err != nil || got != c.want {
			t.Errorf("%s on %q: type %d, %v, want %d", c.addr, c.dev, got, err, c.want)
		}
	}
}

func TestLinksAndAddresses(t *testing.T) {
	r := open(t, "link add br0 type bridge", "link set peer0 master br0", "addr add 10.1.0.1 peer 10.1.0.2 dev peer0")
	links, err := r.Links(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]node.Link{}
	for _, l := range links {
		byName[l.Name] = l
	}
	if l := byName["br0"]; l.Kind != "bridge" || byName["peer0"].Master != l.Index || byName["eth0"].Kind != "veth" || !byName["lo"].Loopback() {
		t.Errorf("links %+v", links)
	}
	addrs, err := r.Addresses(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	peer := false
	for _, a := range addrs {
		peer = peer || a.Prefix.Addr() == netip.MustParseAddr("10.1.0.1") && a.Peer == netip.MustParseAddr("10.1.0.2")
	}
	if !peer {
		t.Errorf("the point-to-point address is not among %+v", addrs)
	}
}

func TestMultipathAndSourceRules(t *testing.T) {
	r := open(t, "link add eth1 type veth peer name peer1", "link set eth1 up", "link set peer1 up", "addr add 10.251.0.11/24 dev eth1",
		"route add 10.9.0.0/16 nexthop via 10.250.0.1 nexthop via 10.251.0.1")
	ctx := context.Background()
	got, err := r.Route(ctx, node.RouteQuery{Dst: netip.MustParseAddr("10.9.1.1"), All: true})
	if err != nil || len(got.Hops) != 2 || !got.Uses("eth0") || !got.Uses("eth1") || got.Uses("lo") {
		t.Errorf("got %+v, %v, want both next hops", got, err)
	}
	if got, err := r.Route(ctx, node.RouteQuery{Dst: netip.MustParseAddr("10.250.0.1"), All: true}); err != nil || got.Hops != nil || !got.Uses("eth0") {
		t.Errorf("a single next hop: %+v, %v", got, err)
	}
	for i, command := range []string{"", "rule add fwmark 1 lookup 100", "rule add from 10.0.0.0/8 lookup 100"} {
		if command != "" {
			if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		if found, err := r.SourceRules(ctx, false); err != nil || found != (i == 2) {
			t.Errorf("after %q: source rules %v, %v", command, found, err)
		}
	}
	if found, err := r.SourceRules(ctx, true); err != nil || found {
		t.Errorf("IPv6: source rules %v, %v", found, err)
	}
}

func TestRefusalsAreExplained(t *testing.T) {
	r := open(t, "rule add fwmark 6 prohibit", "link add eth1 type veth peer name peer1", "link set eth1 up", "link set peer1 up",
		"addr add 10.251.0.11/24 dev eth1")
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/eth0/rp_filter", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr
	for name, c := range map[string]struct {
		q    node.RouteQuery
		want string
	}{
		"rule":        {node.RouteQuery{Dst: a("10.250.0.7"), Mark: 6}, "policy rule 32765: from all fwmark 0x6 prohibit"},
		"rp_filter":   {node.RouteQuery{Dst: a("10.250.0.11"), Src: a("10.251.0.7"), In: "eth0"}, "net.ipv4.conf.eth0.rp_filter is 1: the way back to 10.251.0.7 is by eth1, not by eth0"},
		"not forward": {node.RouteQuery{Dst: a("10.251.0.7"), Src: a("10.250.0.7"), In: "eth0"}, "net.ipv4.conf.eth0.forwarding is 0, and 10.251.0.7 is not an address of this host"},
	} {
		var refused *node.RouteError
		if _, err := r.Route(context.Background(), c.q); !errors.As(err, &refused) || refused.Reason != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestFIBLookupBySource(t *testing.T) {
	r := open(t, "link add eth1 type veth peer name peer1", "link set eth1 up", "link set peer1 up", "addr add 10.251.0.11/24 dev eth1",
		"route add default via 10.250.0.1", "route add default via 10.251.0.1 table 100", "rule add from 10.9.0.0/16 lookup 100")
	a := netip.MustParseAddr
	for src, want := range map[string]string{"10.9.1.1": "eth1", "10.8.1.1": "eth0"} {
		got, err := r.FIBLookup(context.Background(), node.FIBQuery{Dst: a("1.2.3.4"), Src: a(src)})
		if err != nil || got.Out != want {
			t.Errorf("from %s: %+v, %v, want %s", src, got, err, want)
		}
	}
}

func TestFIBStateIsBounded(t *testing.T) {
	r := open(t)
	if _, err := r.FIBState(context.Background(), 3); !errors.Is(err, ErrTooManyRoutes) {
		t.Errorf("got %v, want %v", err, ErrTooManyRoutes)
	}
	if s, err := r.FIBState(context.Background(), 1000); err != nil || len(s.Routes) <= 3 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestLearntPathMTUIsNotTheRoutesOwn(t *testing.T) {
	message := func(flags uint32, expires uint32) []byte {
		rtm := make([]byte, unix.SizeofRtMsg)
		rtm[0], rtm[7] = unix.AF_INET, unix.RTN_UNICAST
		binary.NativeEndian.PutUint32(rtm[8:], flags)
		cache := make([]byte, 32)
		binary.NativeEndian.PutUint32(cache[8:], expires)
		b := nlattr.Append(rtm, unix.RTA_METRICS|nlattr.Nested, nlattr.Append(nil, unix.RTAX_MTU, nlattr.Uint32(1350)))
		return nlattr.Append(b, unix.RTA_CACHEINFO, cache)
	}
	r := &Reader{}
	for name, c := range map[string]struct {
		message []byte
		want    node.Route
	}{
		"learnt":                   {message(unix.RTM_F_CLONED, 59900), node.Route{Type: node.RouteUnicast, PathMTU: 1350}},
		"of the route":             {message(unix.RTM_F_CLONED, 0), node.Route{Type: node.RouteUnicast, MTU: 1350}},
		"of a route that runs out": {message(0, 59900), node.Route{Type: node.RouteUnicast, MTU: 1350}},
	} {
		got, err := r.decodeRoute(t.Context(), c.message)
		if d := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{})); err != nil || d != "" {
			t.Errorf("%s: %v %s", name, err, d)
		}
	}
}
