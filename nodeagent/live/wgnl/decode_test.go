//go:build linux

package wgnl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// The messages are made by hand, after wg_get_device_dump in drivers/net/wireguard/netlink.c.

func message(attrs ...[]byte) []byte {
	return append([]byte{0, 1, 0, 0}, bytes.Join(attrs, nil)...)
}

func attr(typ uint16, b []byte) []byte { return nlattr.Append(nil, typ, b) }

func nested(typ uint16, parts ...[]byte) []byte {
	return nlattr.Append(nil, typ|nlattr.Nested, bytes.Join(parts, nil))
}

func wgKey(n byte) []byte { return append(make([]byte, 31), n) }

func sockaddr(s string) []byte {
	a := netip.MustParseAddrPort(s)
	if a.Addr().Is4() {
		b := binary.NativeEndian.AppendUint16(nil, unix.AF_INET)
		b = binary.BigEndian.AppendUint16(b, a.Port())
		return append(append(b, a.Addr().AsSlice()...), make([]byte, 8)...)
	}
	b := binary.NativeEndian.AppendUint16(nil, unix.AF_INET6)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	return append(append(append(b, 0, 0, 0, 0), a.Addr().AsSlice()...), 0, 0, 0, 0)
}

func ranges(list ...string) []byte {
	var parts [][]byte
	for _, s := range list {
		p := netip.MustParsePrefix(s)
		parts = append(parts, nested(0, attr(allowedFamily, []byte{2, 0}), attr(allowedAddress, p.Addr().AsSlice()), attr(allowedBits, []byte{byte(p.Bits())})))
	}
	return nested(peerAllowedIPs, parts...)
}

func TestDeviceInSeveralMessages(t *testing.T) {
	var d node.WireGuardDevice
	for _, m := range [][]byte{
		message(attr(1, []byte{7, 0, 0, 0}), attr(2, []byte("wg0\x00")), attr(3, wgKey(99)), attr(devicePublicKey, wgKey(1)), attr(devicePort, []byte{0x6c, 0xca}), attr(deviceMark, []byte{0x51, 0, 0, 0}),
			nested(devicePeers,
				nested(0, attr(peerPublicKey, wgKey(2)), attr(2, wgKey(98)), attr(peerEndpoint, sockaddr("10.0.0.2:51820")), attr(5, []byte{0, 0}), ranges("10.244.2.0/24")),
				nested(0, attr(peerPublicKey, wgKey(3)), attr(peerEndpoint, sockaddr("[fd00::3]:51821")), ranges("10.244.3.0/24")))),
		// The last peer goes on, and another one follows.
		message(nested(devicePeers, nested(0, attr(peerPublicKey, wgKey(3)), ranges("fd00:3::/64", "10.9.0.0/16")), nested(0, attr(peerPublicKey, wgKey(4))))),
	} {
		if err := add(&d, m); err != nil {
			t.Fatal(err)
		}
	}
	prefix, end := netip.MustParsePrefix, netip.MustParseAddrPort
	want := node.WireGuardDevice{PublicKey: node.WireGuardKey(wgKey(1)), Port: binary.NativeEndian.Uint16([]byte{0x6c, 0xca}), Mark: 0x51, Peers: []node.WireGuardPeer{
		{PublicKey: node.WireGuardKey(wgKey(2)), Endpoint: end("10.0.0.2:51820"), Allowed: []netip.Prefix{prefix("10.244.2.0/24")}},
		{PublicKey: node.WireGuardKey(wgKey(3)), Endpoint: end("[fd00::3]:51821"), Allowed: []netip.Prefix{prefix("10.244.3.0/24"), prefix("fd00:3::/64"), prefix("10.9.0.0/16")}},
		{PublicKey: node.WireGuardKey(wgKey(4))},
	}}
	if diff := cmp.Diff(want, d, cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
	if p := d.For(netip.MustParseAddr("10.9.1.1")); p == nil || p.PublicKey != want.Peers[1].PublicKey || d.For(netip.MustParseAddr("10.1.1.1")) != nil {
		t.Errorf("%+v", p)
	}
	if d.Peer(want.Peers[2].PublicKey) == nil || d.Peer(node.WireGuardKey(wgKey(77))) != nil {
		t.Error("a peer by its key")
	}
}

func TestGarbageIsAnError(t *testing.T) {
	for name, m := range map[string][]byte{
		"short":               {1, 2},
		"a short key":         message(attr(devicePublicKey, []byte{1, 2, 3})),
		"a short port":        message(attr(devicePort, []byte{1})),
		"a short mark":        message(attr(deviceMark, []byte{1})),
		"a peer without key":  message(nested(devicePeers, nested(0, attr(peerEndpoint, sockaddr("10.0.0.2:1"))))),
		"an endpoint of none": message(nested(devicePeers, nested(0, attr(peerPublicKey, wgKey(2)), attr(peerEndpoint, []byte{0, 0, 0, 0})))),
		"a short endpoint":    message(nested(devicePeers, nested(0, attr(peerPublicKey, wgKey(2)), attr(peerEndpoint, sockaddr("10.0.0.2:1")[:6])))),
		"too many bits":       message(nested(devicePeers, nested(0, attr(peerPublicKey, wgKey(2)), nested(peerAllowedIPs, nested(0, attr(allowedAddress, []byte{10, 0, 0, 0}), attr(allowedBits, []byte{33})))))),
		"no address":          message(nested(devicePeers, nested(0, attr(peerPublicKey, wgKey(2)), nested(peerAllowedIPs, nested(0, attr(allowedBits, []byte{3})))))),
	} {
		var d node.WireGuardDevice
		if err := add(&d, m); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestKernelWithoutWireGuardSaysSo holds on a kernel with WireGuard too: there the interface is what is missing.
func TestKernelWithoutWireGuardSaysSo(t *testing.T) {
	r, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d, err := r.WireGuard(t.Context(), 1)
	if !errors.Is(err, node.ErrNotSupported) && !errors.Is(err, node.ErrNotFound) {
		t.Errorf("%+v, %v", d, err)
	}
}

func FuzzAdd(f *testing.F) {
	f.Add(message(attr(devicePort, []byte{1, 2}), nested(devicePeers, nested(0, attr(peerPublicKey, wgKey(2)), attr(peerEndpoint, sockaddr("10.0.0.2:1")), ranges("10.0.0.0/8")))))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d node.WireGuardDevice
		if add(&d, b) != nil {
			return
		}
		for _, p := range d.Peers {
			for _, a := range p.Allowed {
				if !a.IsValid() {
					t.Error("an address range that is none was taken")
				}
			}
		}
	})
}
