package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Attributes of a rule and of an expression in it (enum nft_rule_attributes, enum nft_expr_attributes).
const (
	attrRuleTable    = 1
	attrRuleChain    = 2
	attrRuleHandle   = 3
	attrRuleExprs    = 4
	attrRuleCompat   = 5
	attrRuleUserdata = 7

	attrCompatProto = 1
	attrCompatFlags = 2

	attrExprName = 1
	attrExprData = 2
)

// maxExprs bounds the expressions of a rule: the kernel takes 128 (NFT_RULE_MAXEXPRS).
const maxExprs = 128

// Rule is one rule, decoded.
type Rule struct {
	Family       node.NFTFamily
	Table, Chain string
	Handle       uint64
	// Comment is the rule's comment, from its user data or from iptables' comment match.
	Comment string
	// Exprs are its expressions in the kernel's order. What is not understood is an Opaque.
	Exprs []Expr
	// CompatProto and CompatInverted are the transport protocol that iptables-nft tells its extensions, 0 for none.
	CompatProto    uint8
	CompatInverted bool

	last int // index of the last expression with an effect on the packet, -1 for none
}

// DecodeRule reads an NFT_MSG_NEWRULE message's attributes. A message that no kernel writes is ErrMalformed.
func DecodeRule(f node.NFTFamily, table, chain string, attrs []byte) (*Rule, error) {
	t, err := attributes(attrs).find(attrRuleUserdata)
	if err != nil {
		return nil, fmt.Errorf("decoding a rule of chain %s: %w", chain, err)
	}
	r := &Rule{Family: f, Table: table, Chain: chain, Handle: t.u64(attrRuleHandle), Comment: userdataComment(t[attrRuleUserdata]), last: -1}
	if t.has(attrRuleCompat) {
		c, err := t.nested(attrRuleCompat, attrCompatFlags)
		if err != nil {
			return nil, fmt.Errorf("decoding rule %d of chain %s: %w", r.Handle, chain, err)
		}
		r.CompatProto, r.CompatInverted = uint8(c.u32(attrCompatProto)), c.u32(attrCompatFlags)&2 != 0
	}
	err = attributes(t[attrRuleExprs]).each(func(typ uint16, data []byte) error {
		if typ != attrListElement {
			return nil
		}
		if len(r.Exprs) == maxExprs {
			return fmt.Errorf("%w: more than %d expressions", ErrMalformed, maxExprs)
		}
		x, err := decodeExpr(data, 0)
		if err != nil {
			return err
		}
		r.Exprs = append(r.Exprs, x)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("decoding rule %d of chain %s: %w", r.Handle, chain, err)
	}
	for i, x := range r.Exprs {
		if x.effect() {
			r.last = i
		}
		if m, ok := x.(*CompatMatch); ok && m.Match == "comment" && r.Comment == "" {
			r.Comment = cString(m.Info)
		}
	}
	return r, nil
}

// Counter returns the numbers of the rule's counter; ok is false when it has none.
func (r *Rule) Counter() (packets, bytes uint64, ok bool) {
	for _, x := range r.Exprs {
		if c, is := x.(*Counter); is {
			return c.Packets, c.Bytes, true
		}
	}
	return 0, 0, false
}
