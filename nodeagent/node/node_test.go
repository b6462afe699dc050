package node

import (
	"errors"
	"fmt"
	"testing"
)

func TestReadErrorSaysWhatIsMissingAndKeepsItsCause(t *testing.T) {
	cause := fmt.Errorf("netlink: %w", ErrPermission)
	for want, err := range map[string]error{
		"reading nftables chains: netlink: permission denied":                       &ReadError{What: "nftables chains", Err: cause},
		"reading nftables chains: netlink: permission denied (needs CAP_NET_ADMIN)": &ReadError{What: "nftables chains", Needs: "CAP_NET_ADMIN", Err: cause},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
		if wrapped := fmt.Errorf("walk: %w", err); !errors.Is(wrapped, ErrPermission) || errors.Is(wrapped, ErrNotFound) {
			t.Errorf("%q: callers cannot tell the cause", wrapped)
		}
	}
}

func TestRouteErrorNamesTheErrorAndItsReason(t *testing.T) {
	for want, err := range map[string]error{
		"route lookup: ENETUNREACH":                   &RouteError{Errno: "ENETUNREACH", Number: 101},
		"route lookup: EXDEV: rp_filter of eth0 is 1": &RouteError{Errno: "EXDEV", Number: 18, Reason: "rp_filter of eth0 is 1"},
		"route lookup: EACCES: rule 7: prohibit":      &RouteError{Errno: "EACCES", Reason: "rule 7: prohibit"},
	} {
		if got := err.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestLinkFlags(t *testing.T) {
	for _, tc := range []struct {
		flags        uint32
		up, loopback bool
	}{{0, false, false}, {0x1, true, false}, {0x8, false, true}, {0x10049, true, true}, {0x11043 &^ 1, false, false}} {
		l := Link{Flags: tc.flags}
		if l.Up() != tc.up || l.Loopback() != tc.loopback {
			t.Errorf("%#x: up %v, loopback %v", tc.flags, l.Up(), l.Loopback())
		}
	}
}

func TestRouteUsesEachOfItsNextHops(t *testing.T) {
	for name, tc := range map[string]struct {
		route Route
		want  map[string]bool
	}{
		"one way":         {Route{Out: "eth0"}, map[string]bool{"eth0": true, "eth1": false}},
		"multipath":       {Route{Out: "eth0", Hops: []NextHop{{Out: "eth0"}, {Out: "eth1"}}}, map[string]bool{"eth0": true, "eth1": true, "eth2": false}},
		"one of, unknown": {Route{OneOf: []NextHop{{Out: "eth1"}, {Out: "eth2"}}}, map[string]bool{"eth0": false, "eth1": true, "eth2": true}},
		"blackhole":       {Route{Type: RouteBlackhole}, map[string]bool{"eth0": false}},
	} {
		for dev, want := range tc.want {
			if tc.route.Uses(dev) != want {
				t.Errorf("%s: uses %s: %v", name, dev, !want)
			}
		}
	}
}

func TestFamiliesAreNamedAsNftDoes(t *testing.T) {
	for f, want := range map[NFTFamily]string{
		NFTInet: "inet", NFTIPv4: "ip", NFTARP: "arp", NFTNetdev: "netdev", NFTBridge: "bridge", NFTIPv6: "ip6", 42: "family 42",
	} {
		if f.String() != want {
			t.Errorf("%d: %s, want %s", f, f, want)
		}
	}
}
