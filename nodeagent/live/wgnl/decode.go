// Package wgnl reads the peers of WireGuard interfaces by generic netlink (include/uapi/linux/wireguard.h). Keys that are
// secret are passed over.
package wgnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Attributes of a device, a peer, and an allowed address range (enum wgdevice_attribute, wgpeer_attribute,
// wgallowedip_attribute).
const (
	deviceIndex     = 1
	devicePublicKey = 4
	devicePort      = 6
	deviceMark      = 7
	devicePeers     = 8

	peerPublicKey  = 1
	peerEndpoint   = 4
	peerAllowedIPs = 9

	allowedFamily  = 1
	allowedAddress = 2
	allowedBits    = 3
)

const genlHeader = 4 // struct genlmsghdr

// add reads one message of a dump of a device into d. A device with many peers comes in several messages, and a peer with
// many address ranges is continued in the next one.
func add(d *node.WireGuardDevice, data []byte) error {
	if len(data) < genlHeader {
		return errors.New("decoding a WireGuard device: a short message")
	}
	err := nlattr.Each(data[genlHeader:], func(typ uint16, b []byte) error {
		switch typ {
		case devicePublicKey:
			return key(&d.PublicKey, b)
		case devicePort:
			if len(b) < 2 {
				return errors.New("a short port")
			}
			d.Port = binary.NativeEndian.Uint16(b)
		case deviceMark:
			if len(b) < 4 {
				return errors.New("a short mark")
			}
			d.Mark = binary.NativeEndian.Uint32(b)
		case devicePeers:
			return nlattr.Each(b, func(_ uint16, b []byte) error { return addPeer(d, b) })
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("decoding a WireGuard device: %w", err)
	}
	return nil
}

func addPeer(d *node.WireGuardDevice, b []byte) error {
	var p node.WireGuardPeer
	have := false
	err := nlattr.Each(b, func(typ uint16, b []byte) error {
		switch typ {
		case peerPublicKey:
			have = true
			return key(&p.PublicKey, b)
		case peerEndpoint:
			var err error
			p.Endpoint, err = endpoint(b)
			return err
		case peerAllowedIPs:
			return nlattr.Each(b, func(_ uint16, b []byte) error {
				r, err := allowed(b)
				p.Allowed = append(p.Allowed, r)
				return err
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !have {
		return errors.New("a peer without a key")
	}
	if n := len(d.Peers); n > 0 && d.Peers[n-1].PublicKey == p.PublicKey {
		d.Peers[n-1].Allowed = append(d.Peers[n-1].Allowed, p.Allowed...)
		return nil
	}
	d.Peers = append(d.Peers, p)
	return nil
}

func key(to *node.WireGuardKey, b []byte) error {
	if len(b) != len(to) {
		return fmt.Errorf("a key of %d bytes", len(b))
	}
	copy(to[:], b)
	return nil
}

// endpoint reads a struct sockaddr_in or sockaddr_in6.
func endpoint(b []byte) (netip.AddrPort, error) {
	if len(b) < 2 {
		return netip.AddrPort{}, errors.New("a short endpoint")
	}
	at, size := 4, 4
	switch family := binary.NativeEndian.Uint16(b); family {
	case unix.AF_INET:
	case unix.AF_INET6:
		at, size = 8, 16
	default:
		return netip.AddrPort{}, fmt.Errorf("an endpoint of family %d", family)
	}
	if len(b) < at+size {
		return netip.AddrPort{}, fmt.Errorf("an endpoint of %d bytes", len(b))
	}
	a, _ := netip.AddrFromSlice(b[at : at+size])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[2:])), nil
}

func allowed(b []byte) (netip.Prefix, error) {
	var (
		a    netip.Addr
		bits = -1
	)
	err := nlattr.Each(b, func(typ uint16, b []byte) error {
		switch typ {
		case allowedAddress:
			a, _ = netip.AddrFromSlice(b)
		case allowedBits:
			if len(b) >= 1 {
				bits = int(b[0])
			}
		}
		return nil
	})
	if err != nil {
		return netip.Prefix{}, err
	}
	p := netip.PrefixFrom(a, bits)
	if !p.IsValid() {
		return p, fmt.Errorf("an address range of %d bits of %s", bits, a)
	}
	return p, nil
}
