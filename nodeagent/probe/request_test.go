//go:build linux

package probe

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

func TestRequestsAreBounded(t *testing.T) {
	ok := wire.ProbeRequest{Protocol: "tcp", Destination: netip.MustParseAddrPort("10.96.0.25:80")}
	if got, err := checked(ok); err != nil || got.count != 1 || got.timeout != defaultTimeout {
		t.Errorf("%+v, %v", got, err)
	}
	for name, change := range map[string]func(*wire.ProbeRequest){
		"another protocol":    func(r *wire.ProbeRequest) { r.Protocol = "icmp" },
		"no port":             func(r *wire.ProbeRequest) { r.Destination = netip.MustParseAddrPort("10.96.0.25:0") },
		"no destination":      func(r *wire.ProbeRequest) { r.Destination = netip.AddrPort{} },
		"multicast":           func(r *wire.ProbeRequest) { r.Destination = netip.MustParseAddrPort("224.0.0.1:80") },
		"broadcast":           func(r *wire.ProbeRequest) { r.Destination = netip.MustParseAddrPort("255.255.255.255:80") },
		"two families":        func(r *wire.ProbeRequest) { r.Source = netip.MustParseAddr("fd00::1") },
		"too many":            func(r *wire.ProbeRequest) { r.Count = wire.MaxProbes + 1 },
		"fewer than none":     func(r *wire.ProbeRequest) { r.Count = -1 },
		"too long":            func(r *wire.ProbeRequest) { r.TimeoutMillis = wire.MaxProbeTimeoutMillis + 1 },
		"too long all in all": func(r *wire.ProbeRequest) { r.Count, r.TimeoutMillis = 200, 8000 },
		"a negative time":     func(r *wire.ProbeRequest) { r.TimeoutMillis = -1 },
		"an unspecified one":  func(r *wire.ProbeRequest) { r.Destination = netip.MustParseAddrPort("0.0.0.0:80") },
	} {
		r := ok
		change(&r)
		if _, err := checked(r); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnAddressThatNoNamespaceHasIsNoClient(t *testing.T) {
	_, err := Run(t.Context(), wire.ProbeRequest{Protocol: "tcp", Source: netip.MustParseAddr("198.51.100.77"), Destination: netip.MustParseAddrPort("198.51.100.78:80")})
	if !errors.Is(err, ErrRequest) {
		t.Errorf("%v", err)
	}
}
