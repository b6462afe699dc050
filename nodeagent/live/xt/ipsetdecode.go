package xt

import (
	"encoding/binary"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// decodeIPSet reads the header of a set from the attributes of an IPSET_CMD_LIST message into s. A message without the
// header's attributes changes nothing.
func decodeIPSet(s *node.IPSet, attrs []byte) error {
	err := nlattr.Each(attrs, func(typ uint16, b []byte) error {
		switch typ {
		case ipsetAttrSetName:
			s.Name = text(b)
		case ipsetAttrTypeName:
			s.Type = text(b)
		case ipsetAttrRevision:
			return number8(b, &s.Revision)
		case ipsetAttrFamily:
			var f uint8
			err := number8(b, &f)
			s.Family = skb.Family(f)
			return err
		case ipsetAttrData:
			return nlattr.Each(b, func(typ uint16, b []byte) error { return decodeIPSetCreate(s, typ, b) })
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("decoding an ipset: %w", err)
	}
	return nil
}

// decodeIPSetCreate reads one attribute of how a set was created.
func decodeIPSetCreate(s *node.IPSet, typ uint16, b []byte) error {
	switch typ {
	case ipsetAttrPort:
		return number16(b, &s.PortFrom)
	case ipsetAttrPortTo:
		return number16(b, &s.PortTo)
	case ipsetAttrTimeout:
		s.HasTimeout = true
	case ipsetAttrNetmask:
		return number8(b, &s.Netmask)
	case ipsetAttrCADTFlags:
		if len(b) < 4 {
			return fmt.Errorf("flags of %d bytes", len(b))
		}
		flags := binary.BigEndian.Uint32(b)
		s.HasCounters, s.HasSkbInfo = flags&ipsetFlagWithCounters != 0, flags&ipsetFlagWithSkbInfo != 0
	}
	return nil
}

// decodeIPSetMembers reads the names of a list:set's members from an IPSET_CMD_LIST message.
func decodeIPSetMembers(attrs []byte) ([]string, error) {
	var out []string
	err := nlattr.Each(attrs, func(typ uint16, b []byte) error {
		if typ != ipsetAttrADT {
			return nil
		}
		return nlattr.Each(b, func(_ uint16, member []byte) error {
			return nlattr.Each(member, func(typ uint16, b []byte) error {
				if typ == ipsetAttrName {
					out = append(out, text(b))
				}
				return nil
			})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("decoding the members of an ipset: %w", err)
	}
	return out, nil
}

func number8(b []byte, v *uint8) error {
	if len(b) < 1 {
		return fmt.Errorf("an empty number")
	}
	*v = b[0]
	return nil
}

func number16(b []byte, v *uint16) error {
	if len(b) < 2 {
		return fmt.Errorf("a 16-bit number of %d bytes", len(b))
	}
	*v = binary.BigEndian.Uint16(b)
	return nil
}
