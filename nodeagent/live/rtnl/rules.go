//go:build linux

package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/fib"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Attributes of a policy rule (FRA_ of include/uapi/linux/fib_rules.h).
const (
	fraDst            = 1
	fraSrc            = 2
	fraIIFName        = 3
	fraGoto           = 4
	fraPriority       = 6
	fraFWMark         = 10
	fraFlow           = 11
	fraTunID          = 12
	fraSuppressGroup  = 13
	fraSuppressPrefix = 14
	fraTable          = 15
	fraFWMask         = 16
	fraOIFName        = 17
	fraL3MDev         = 19
	fraUIDRange       = 20
	fraIPProto        = 22
	fraSportRange     = 23
	fraDportRange     = 24
	fraDSCP           = 25 // 6.14
	fraFlowLabel      = 26
	fraFlowLabelMask  = 27
	fraSportMask      = 28 // 6.15
	fraDportMask      = 29
	fraDSCPMask       = 30

	ruleInvert  = 0x2
	ruleFindSrc = 0x10000
)

// SourceRules tells whether a policy rule of the family looks at a packet's source or input interface.
func (r *Reader) SourceRules(ctx context.Context, ipv6 bool) (bool, error) {
	family := byte(unix.AF_INET)
	if ipv6 {
		family = unix.AF_INET6
	}
	rules, err := r.rules(ctx, family)
	if err != nil {
		return false, err
	}
	s := fib.State{Rules4: rules, Rules6: rules}
	return s.SourceRules(ctx, ipv6)
}

// rules reads the policy rules of a family, in order.
func (r *Reader) rules(ctx context.Context, family byte) ([]fib.Rule, error) {
	var out []fib.Rule
	body := make([]byte, unix.SizeofRtMsg) // struct fib_rule_hdr has the same size
	body[0] = family
	err := nlsock.Retry(ctx, func() { out = nil }, func() error {
		return r.sock.Do(ctx, unix.RTM_GETRULE, unix.NLM_F_DUMP, body, func(m nlsock.Message) error {
			rule, err := decodeRule(m.Data)
			out = append(out, rule)
			return err
		})
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return defaultRules(family), nil // a kernel without policy routing
	}
	if err != nil {
		return nil, &node.ReadError{What: "the policy routing rules", Err: err}
	}
	return out, nil
}

// defaultRules are the lookups of a kernel that has no rules.
func defaultRules(family byte) []fib.Rule {
	rules := []fib.Rule{
		{Action: fib.ActionTable, Table: unix.RT_TABLE_LOCAL},
		{Priority: 0x7ffe, Action: fib.ActionTable, Table: unix.RT_TABLE_MAIN},
	}
	if family == unix.AF_INET {
		rules = append(rules, fib.Rule{Priority: 0x7fff, Action: fib.ActionTable, Table: unix.RT_TABLE_DEFAULT})
	}
	return rules
}

func decodeRule(data []byte) (fib.Rule, error) {
	if len(data) < unix.SizeofRtMsg {
		return fib.Rule{}, errors.New("a short policy rule message")
	}
	flags := binary.NativeEndian.Uint32(data[8:])
	r := fib.Rule{
		TOS: data[3], Table: uint32(data[4]), Action: fib.Action(data[7]),
		Not: flags&ruleInvert != 0, FindSrc: flags&ruleFindSrc != 0,
	}
	err := nlattr.Each(data[unix.SizeofRtMsg:], func(typ uint16, b []byte) error {
		if !ruleAttr(&r, data, typ, b) {
			return fmt.Errorf("policy rule attribute %d of %d bytes", typ, len(b))
		}
		return nil
	})
	return r, err
}

// ruleAttr decodes one attribute; false is a wrong length.
func ruleAttr(r *fib.Rule, header []byte, typ uint16, b []byte) bool {
	word := func(to *uint32) bool {
		if len(b) < 4 {
			return false
		}
		*to = binary.NativeEndian.Uint32(b)
		return true
	}
	prefix := func(to *netip.Prefix, bits byte) bool {
		a, ok := netip.AddrFromSlice(b)
		*to = netip.PrefixFrom(a, int(bits))
		return ok && to.IsValid()
	}
	short := func(first, second *uint16) bool {
		if len(b) < 2 || second != nil && len(b) < 4 {
			return false
		}
		*first = binary.NativeEndian.Uint16(b)
		if second != nil {
			*second = binary.NativeEndian.Uint16(b[2:])
		}
		return true
	}
	switch typ {
	case fraDst:
		return prefix(&r.To, header[1])
	case fraSrc:
		return prefix(&r.From, header[2])
	case fraIIFName:
		r.IIF = nlattr.Text(b)
	case fraOIFName:
		r.OIF = nlattr.Text(b)
	case fraGoto:
		return word(&r.Goto)
	case fraPriority:
		return word(&r.Priority)
	case fraFWMark:
		return word(&r.Mark)
	case fraFWMask:
		return word(&r.Mask)
	case fraFlow:
		return word(&r.Realm)
	case fraTable:
		return word(&r.Table)
	case fraSuppressGroup:
		var v uint32
		ok := word(&v)
		r.SuppressGroup = &v
		return ok
	case fraSuppressPrefix:
		var v uint32
		ok := word(&v)
		if n := int(int32(v)); n >= 0 {
			r.SuppressPrefix = &n
		}
		return ok
	case fraTunID:
		if len(b) < 8 {
			return false
		}
		r.TunnelID = binary.BigEndian.Uint64(b)
	case fraUIDRange:
		if len(b) < 8 {
			return false
		}
		r.UIDs = &fib.UIDs{First: binary.NativeEndian.Uint32(b), Last: binary.NativeEndian.Uint32(b[4:])}
	case fraSportRange:
		return short(&r.SrcPorts.First, &r.SrcPorts.Last)
	case fraDportRange:
		return short(&r.DstPorts.First, &r.DstPorts.Last)
	case fraSportMask:
		return short(&r.SrcPorts.Mask, nil)
	case fraDportMask:
		return short(&r.DstPorts.Mask, nil)
	case fraFlowLabel, fraFlowLabelMask:
		if len(b) < 4 {
			return false
		}
		v := binary.BigEndian.Uint32(b)
		if typ == fraFlowLabel {
			r.FlowLabel = v
		} else {
			r.FlowLabelMask = v
		}
	case fraL3MDev, fraIPProto, fraDSCP, fraDSCPMask:
		if len(b) < 1 {
			return false
		}
		switch typ {
		case fraL3MDev:
			r.L3MDev = b[0] != 0
		case fraIPProto:
			r.Proto = b[0]
		case fraDSCP:
			r.DSCP = b[0] << 2
			if r.DSCPMask == 0 {
				r.DSCPMask = 0xfc
			}
		case fraDSCPMask:
			r.DSCPMask = b[0] << 2
		}
	}
	return true
}
