//go:build linux

package rtnl

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// TestTunnelsAreDecoded makes the messages by hand, after the drivers' fill_info functions: a kernel may have VXLAN alone.
// test/vm/tunnels reads those of a kernel that has all.
func TestTunnelsAreDecoded(t *testing.T) {
	a4, b4, a6 := []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}, netip.MustParseAddr("fd00::1").AsSlice()
	none := []byte{0, 0, 0, 0}
	addr := netip.MustParseAddr
	type attrs map[uint16][]byte
	for name, c := range map[string]struct {
		kind string
		data attrs
		want *node.Tunnel
	}{
		"vxlan":            {"vxlan", attrs{1: nlattr.Uint32(7), 4: a4, 15: nlattr.BigUint16(8472)}, &node.Tunnel{ID: 7, Local: addr("10.0.0.1"), Port: 8472}},
		"vxlan over IPv6":  {"vxlan", attrs{1: nlattr.Uint32(7), 17: a6, 16: a6, 15: nlattr.BigUint16(4789)}, &node.Tunnel{ID: 7, Local: addr("fd00::1"), Remote: addr("fd00::1"), Port: 4789}},
		"vxlan, external":  {"vxlan", attrs{15: nlattr.BigUint16(4789), 25: {1}}, &node.Tunnel{Port: 4789, External: true}},
		"geneve":           {"geneve", attrs{1: nlattr.Uint32(9), 2: b4, 5: nlattr.BigUint16(6081)}, &node.Tunnel{ID: 9, Remote: addr("10.0.0.2"), Port: 6081}},
		"geneve over IPv6": {"geneve", attrs{7: a6, 5: nlattr.BigUint16(6081)}, &node.Tunnel{Remote: addr("fd00::1"), Port: 6081}},
		"geneve, external": {"geneve", attrs{6: nil, 5: nlattr.BigUint16(6081)}, &node.Tunnel{Port: 6081, External: true}},
		"ipip":             {"ipip", attrs{2: a4, 3: b4}, &node.Tunnel{Local: addr("10.0.0.1"), Remote: addr("10.0.0.2")}},
		"ipip to any":      {"ipip", attrs{2: none, 3: none}, &node.Tunnel{}},
		"sit":              {"sit", attrs{2: a4, 3: b4}, &node.Tunnel{Local: addr("10.0.0.1"), Remote: addr("10.0.0.2")}},
		"gre":              {"gre", attrs{6: a4, 7: b4}, &node.Tunnel{Local: addr("10.0.0.1"), Remote: addr("10.0.0.2")}},
		"GRE with a key, a sequence out, a checksum in": {"gre", attrs{2: {0xa0, 0}, 3: {0x30, 0}, 4: {0, 0, 0, 5}, 5: {0, 0, 1, 6}},
			&node.Tunnel{Takes: node.GREFields{Keyed: true, Checksum: true, Key: 5}, Sends: node.GREFields{Keyed: true, Sequence: true, Key: 262}}},
		"ip6tnl":               {"ip6tnl", attrs{2: a6, 3: a6}, &node.Tunnel{Local: addr("fd00::1"), Remote: addr("fd00::1"), Limited: true}},
		"ip6tnl without limit": {"ip6tnl", attrs{8: nlattr.Uint32(1), 9: {41}}, &node.Tunnel{Carries: 41}},
		"ipip within UDP":      {"ipip", attrs{9: {4}, 15: {1, 0}}, &node.Tunnel{Carries: 4, Within: "fou"}},
		"no tunnel":            {"ipvlan", attrs{1: {1}}, nil},
	} {
		var data []byte
		for typ, b := range c.data {
			data = nlattr.Append(data, typ, b)
		}
		info := nlattr.Append(nil, unix.IFLA_INFO_KIND, append([]byte(c.kind), 0))
		info = nlattr.Append(info, unix.IFLA_INFO_DATA|nlattr.Nested, data)
		var l node.Link
		if err := linkAttr(&l, unix.IFLA_LINKINFO, info); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, l.Tunnel, cmpopts.EquateComparable(netip.Addr{})); d != "" || l.Kind != c.kind {
			t.Errorf("%s: %s %s", name, l.Kind, d)
		}
	}
}

func TestTunnelThatIsCutShortIsAnError(t *testing.T) {
	for kind, b := range map[string][]byte{
		"vxlan": nlattr.Append(nil, 1, []byte{1}), "geneve": nlattr.Append(nil, 5, []byte{1}), "gre": nlattr.Append(nil, 2, []byte{1}), "ipip": nlattr.Append(nil, 9, nil),
	} {
		if err := tunnelData(&node.Link{Kind: kind}, b); err == nil {
			t.Errorf("%s: no error", kind)
		}
	}
}

func FuzzTunnelData(f *testing.F) {
	f.Add(uint8(0), nlattr.Append(nlattr.Append(nil, 2, []byte{10, 0, 0, 1}), 15, []byte{1, 0}))
	kinds := slices.Sorted(maps.Keys(tunnelKinds))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		l := node.Link{Kind: kinds[int(kind)%len(kinds)]}
		if err := tunnelData(&l, b); err == nil && l.Tunnel.Overhead(l.Kind, false) < 20 {
			t.Errorf("%s adds less than an IP header", l.Kind)
		}
	})
}
