//go:build linux

package rtnl

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// TestEncapsulationsOfRoutesAreDecoded makes attributes by hand, after ip_tun_fill_encap_info; test/vm/tunnels reads those of a
// kernel.
func TestEncapsulationsOfRoutesAreDecoded(t *testing.T) {
	id, dst, src := []byte{0, 0, 0, 0, 0, 0, 1, 2}, []byte{10, 0, 0, 2}, []byte{0, 0, 0, 0}
	base := nlattr.Append(nlattr.Append(nlattr.Append(nil, encapID, id), encapDst, dst), encapSrc, src)
	option := nlattr.Append(nil, encapGeneve, nlattr.Append(nlattr.Append(nil, 1, []byte{0, 0}), geneveData, make([]byte, 8)))
	to := netip.MustParseAddr("10.0.0.2")
	for name, c := range map[string]struct {
		kind []byte
		b    []byte
		want node.Encap
	}{
		"ip":                    {[]byte{2, 0}, base, node.Encap{Kind: "ip", ID: 258, Destination: to}},
		"ip for GRE with a key": {[]byte{2, 0}, nlattr.Append(base, encapFlags, []byte{0, 0x0d}), node.Encap{Kind: "ip", ID: 258, Destination: to, GRE: node.GREFields{Checksum: true, Keyed: true, Sequence: true, Key: 258}}},
		"Geneve's options":      {[]byte{2, 0}, nlattr.Append(base, encapOptions, append(append([]byte(nil), option...), option...)), node.Encap{Kind: "ip", ID: 258, Destination: to, Options: 24}},
		"VXLAN's options":       {[]byte{2, 0}, nlattr.Append(base, encapOptions, nlattr.Append(nil, 2, nil)), node.Encap{Kind: "ip", ID: 258, Destination: to}},
		"ip6":                   {[]byte{4, 0}, nlattr.Append(nil, encapDst, netip.MustParseAddr("fd00::2").AsSlice()), node.Encap{Kind: "ip6", Destination: netip.MustParseAddr("fd00::2")}},
		"mpls":                  {[]byte{1, 0}, []byte{1}, node.Encap{Kind: "mpls"}},
		"a newer one":           {[]byte{99, 0}, nil, node.Encap{Kind: "encapsulation 99"}},
	} {
		kind, err := encapKind(c.kind)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeEncap(kind, c.b)
		if d := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, d)
		}
	}
}

func TestEncapsulationThatIsCutShortIsAnError(t *testing.T) {
	if _, err := encapKind([]byte{1}); err == nil {
		t.Error("a kind of one byte: no error")
	}
	for _, typ := range []uint16{encapID, encapDst, encapSrc, encapFlags} {
		if _, err := decodeEncap("ip", nlattr.Append(nil, typ, []byte{1})); err == nil {
			t.Errorf("attribute %d: no error", typ)
		}
	}
}

func FuzzEncap(f *testing.F) {
	f.Add("ip", nlattr.Append(nlattr.Append(nil, encapDst, []byte{10, 0, 0, 2}), encapOptions, nlattr.Append(nil, encapGeneve, nlattr.Append(nil, geneveData, []byte{1, 2, 3, 4}))))
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		e, err := decodeEncap(kind, b)
		if err == nil && (e.Options < 0 || e.Options > 4*len(b)) {
			t.Errorf("%d bytes of options in %d", e.Options, len(b))
		}
	})
}
