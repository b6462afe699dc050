//go:build linux

package xfrmnl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Where members of struct xfrm_userpolicy_info are, which begins with struct xfrm_selector.
const (
	atDst       = 0
	atSrc       = 16
	atDstPort   = 32
	atDstMask   = 34
	atSrcPort   = 36
	atSrcMask   = 38
	atFamily    = 40
	atDstLength = 42
	atSrcLength = 43
	atProto     = 44
	atInterface = 48
	atPriority  = 152
	atDirection = 160
	atAction    = 161
	infoSize    = 168
)

// Attributes of a policy.
const (
	attrTemplates = 5
	attrType      = 16
	attrMark      = 21
	attrInterface = 31
)

const templateSize = 64 // struct xfrm_user_tmpl

// decode reads a policy; ok is false for one of a single socket, which others do not meet.
func decode(b []byte) (p node.IPsecPolicy, ok bool, err error) {
	if len(b) < infoSize {
		return p, false, fmt.Errorf("an IPsec policy of %d bytes", len(b))
	}
	switch b[atDirection] {
	case 0:
		p.Direction = node.IPsecIn
	case 1:
		p.Direction = node.IPsecOut
	case 2:
		p.Direction = node.IPsecForward
	default:
		return p, false, nil
	}
	family := binary.NativeEndian.Uint16(b[atFamily:])
	if p.Dst, err = prefix(b[atDst:atDst+16], b[atDstLength], family); err != nil {
		return p, false, err
	}
	if p.Src, err = prefix(b[atSrc:atSrc+16], b[atSrcLength], family); err != nil {
		return p, false, err
	}
	p.DstPort, p.DstPortMask = binary.BigEndian.Uint16(b[atDstPort:]), binary.BigEndian.Uint16(b[atDstMask:])
	p.SrcPort, p.SrcPortMask = binary.BigEndian.Uint16(b[atSrcPort:]), binary.BigEndian.Uint16(b[atSrcMask:])
	p.Proto, p.Interface = b[atProto], int(int32(binary.NativeEndian.Uint32(b[atInterface:])))
	p.Priority, p.Block = binary.NativeEndian.Uint32(b[atPriority:]), b[atAction] != 0
	err = nlattr.Each(b[infoSize:], func(typ uint16, b []byte) error {
		size := map[uint16]int{attrTemplates: templateSize, attrType: 1, attrMark: 8, attrInterface: 4}[typ]
		if len(b) < size {
			return fmt.Errorf("attribute %d of an IPsec policy has %d bytes", typ, len(b))
		}
		switch typ {
		case attrTemplates:
			p.Templates = len(b) / templateSize
		case attrType:
			p.Sub = b[0] != 0
		case attrMark:
			p.Mark, p.MarkMask = binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
		case attrInterface:
			p.InterfaceID = binary.NativeEndian.Uint32(b)
		}
		return nil
	})
	return p, err == nil, err
}

func prefix(b []byte, length uint8, family uint16) (netip.Prefix, error) {
	var a netip.Addr
	switch family {
	case unix.AF_INET:
		a = netip.AddrFrom4([4]byte(b))
	case unix.AF_INET6:
		a = netip.AddrFrom16([16]byte(b))
	default:
		return netip.Prefix{}, fmt.Errorf("an IPsec policy of address family %d", family)
	}
	p, err := a.Prefix(int(length))
	if err != nil {
		return p, fmt.Errorf("an IPsec policy for %s/%d", a, length)
	}
	return p, nil
}
