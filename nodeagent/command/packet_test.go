package command

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

func TestStart(t *testing.T) {
	for name, c := range map[string]struct {
		o    packetOptions
		want walk.Start
	}{
		"tcp with a source port": {
			packetOptions{from: "10.0.0.1", to: "10.0.0.2:80", proto: "tcp", sport: 4000, mark: "0x1", output: "text"},
			walk.Start{Proto: 6, Source: netip.MustParseAddrPort("10.0.0.1:4000"), Destination: netip.MustParseAddrPort("10.0.0.2:80"), Mark: 1},
		},
		"IPv6": {
			packetOptions{from: "fd00::1", to: "[fd00::2]:53", proto: "udp", mark: "0", output: "json", in: "eth0"},
			walk.Start{Proto: 17, Source: netip.MustParseAddrPort("[fd00::1]:0"), Destination: netip.MustParseAddrPort("[fd00::2]:53"), In: "eth0"},
		},
		"icmp": {
			packetOptions{from: "10.0.0.1", to: "10.0.0.2", proto: "icmp", mark: "0", output: "text"},
			walk.Start{Proto: 1, Source: netip.MustParseAddrPort("10.0.0.1:0"), Destination: netip.MustParseAddrPort("10.0.0.2:0")},
		},
	} {
		got, err := c.o.start()
		if err != nil || !cmp.Equal(got, c.want, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, c.want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"state that cannot be read":        {&node.ReadError{What: "chains", Err: node.ErrPermission}, ExitUnreadable},
		"bad usage":                        {usageError{errors.New("x")}, ExitUsage},
		"an impossible packet":             {fmt.Errorf("%w: x", walk.ErrStart), ExitUsage},
		"an impossible packet, unreadable": {fmt.Errorf("%w: %w", walk.ErrStart, &node.ReadError{What: "x", Err: errors.New("y")}), ExitUnreadable},
		"anything else of a command":       {errors.New("x"), ExitUnreadable},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", name, got, c.want)
		}
	}
}
