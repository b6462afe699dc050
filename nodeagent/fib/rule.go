package fib

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// Action is what a policy rule does (FR_ACT_ of include/uapi/linux/fib_rules.h).
type Action uint8

// The actions.
const (
	ActionTable       Action = 1
	ActionGoto        Action = 2
	ActionNop         Action = 3
	ActionBlackhole   Action = 6
	ActionUnreachable Action = 7
	ActionProhibit    Action = 8
)

// Rule is a policy routing rule. Its zero value matches everything.
type Rule struct {
	Priority uint32 `json:"priority"`
	Action   Action `json:"action"`
	// Table is looked up by ActionTable; Goto is the priority of the rule that ActionGoto goes to.
	Table uint32 `json:"table,omitempty"`
	Goto  uint32 `json:"goto,omitempty"`
	// Not inverts the match.
	Not  bool         `json:"not,omitempty"`
	From netip.Prefix `json:"from,omitzero"`
	To   netip.Prefix `json:"to,omitzero"`
	// FindSrc is FIB_RULE_FIND_SADDR: From is compared with the source that an IPv6 route would give.
	FindSrc bool   `json:"findSource,omitempty"`
	IIF     string `json:"iif,omitempty"`
	OIF     string `json:"oif,omitempty"`
	Mark    uint32 `json:"mark,omitempty"`
	Mask    uint32 `json:"mask,omitempty"`
	// TOS is the TOS to match, 0 for any. DSCP and its mask (as bits of the TOS byte) take its place when the mask is not 0.
	TOS      uint8 `json:"tos,omitempty"`
	DSCP     uint8 `json:"dscp,omitempty"`
	DSCPMask uint8 `json:"dscpMask,omitempty"`
	// FlowLabel and its mask are of the IPv6 flow label, which is taken to be 0.
	FlowLabel     uint32 `json:"flowLabel,omitempty"`
	FlowLabelMask uint32 `json:"flowLabelMask,omitempty"`
	Proto         uint8  `json:"proto,omitempty"`
	SrcPorts      Ports  `json:"srcPorts,omitzero"`
	DstPorts      Ports  `json:"dstPorts,omitzero"`
	// UIDs is the range of users, nil for all.
	UIDs *UIDs `json:"uids,omitempty"`
	// TunnelID matches metadata of a tunnel, which no flow here has.
	TunnelID uint64 `json:"tunnelID,omitempty"`
	L3MDev   bool   `json:"l3mdev,omitempty"`
	// SuppressPrefix refuses routes with a prefix not longer, SuppressGroup those by an interface of the group.
	SuppressPrefix *int    `json:"suppressPrefixLength,omitempty"`
	SuppressGroup  *uint32 `json:"suppressGroup,omitempty"`
	// Realm is FRA_FLOW.
	Realm uint32 `json:"realm,omitempty"`
}

// Ports is a range of ports, or with a mask a port under a mask. The zero value is any port.
type Ports struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
	Mask  uint16 `json:"mask,omitempty"`
}

// match is fib_rule_port_match of include/net/fib_rules.h.
func (p Ports) match(port uint16) bool {
	if (p.First^port)&p.Mask != 0 {
		return false
	}
	return p.Mask != 0 || p.First == 0 && p.Last == 0 || p.First <= port && port <= p.Last
}

// UIDs is a range of user ids.
type UIDs struct {
	First uint32 `json:"first"`
	Last  uint32 `json:"last"`
}

// legacyTOS is INET_DSCP_LEGACY_TOS_MASK: the three upper bits of the TOS byte do not take part (include/net/inet_dscp.h).
const legacyTOS = 0x1c

// matches is fib_rule_match of net/core/fib_rules.c with fib4_rule_match or fib6_rule_match.
func (r *Rule) matches(f *flow) bool { return r.match(f) != r.Not }

func (r *Rule) match(f *flow) bool {
	switch {
	case r.IIF != "" && r.IIF != f.in && r.IIF != f.vrf,
		r.OIF != "" && r.OIF != f.out && r.OIF != f.vrf,
		(r.Mark^f.mark)&r.Mask != 0,
		r.TunnelID != 0,
		r.L3MDev && f.vrf == "",
		r.UIDs != nil && (f.uid < r.UIDs.First || f.uid > r.UIDs.Last),
		r.To.IsValid() && !r.To.Contains(f.dst),
		r.Proto != 0 && r.Proto != f.proto,
		!r.SrcPorts.match(f.srcPort), !r.DstPorts.match(f.dstPort),
		r.FlowLabel&r.FlowLabelMask != 0:
		return false
	}
	if f.dst.Is4() {
		if r.From.IsValid() && !r.From.Contains(f.src) {
			return false
		}
		if r.DSCPMask != 0 {
			return (r.DSCP^f.tos)&r.DSCPMask == 0
		}
		return r.TOS == 0 || r.TOS == f.tos&legacyTOS
	}
	if r.From.IsValid() && r.From.Bits() > 0 {
		if f.hasSrc && !r.From.Contains(f.src) || !f.hasSrc && !r.FindSrc {
			return false
		}
	}
	if r.DSCPMask != 0 {
		return (r.DSCP^f.tos)&r.DSCPMask == 0
	}
	return r.TOS == 0 || r.TOS == f.tos
}

// each calls action for the rules that match, in the order of fib_rules_lookup, until it returns false.
func each(rules []Rule, f *flow, action func(*Rule) bool) {
	for i := 0; i < len(rules); {
		r := &rules[i]
		next := i + 1
		if r.matches(f) {
			switch r.Action {
			case ActionGoto:
				if j := target(rules, r); j > i {
					next = j
				}
			case ActionNop:
			default:
				if !action(r) {
					return
				}
			}
		}
		i = next
	}
}

// target is the first rule with the priority that r goes to, -1 for none. The kernel lets rules go forward only.
func target(rules []Rule, r *Rule) int {
	for j := range rules {
		if rules[j].Priority == r.Goto {
			return j
		}
	}
	return -1
}

// refuses is the refusal of a rule's own action, none for a lookup.
func (r *Rule) refuses() refusal {
	e := eINVAL
	switch r.Action {
	case ActionTable:
		return refusal{}
	case ActionUnreachable:
		e = eNETUNREACH
	case ActionProhibit, 12: // FR_ACT_POLICY_FAILED
		e = eACCES
	}
	return refusal{e, "policy rule " + r.String()}
}

// suppresses is fib4_rule_suppress and fib6_rule_suppress.
func (r *Rule) suppresses(bits int, out *Interface) bool {
	if r.SuppressPrefix != nil && bits <= *r.SuppressPrefix {
		return true
	}
	return r.SuppressGroup != nil && out != nil && out.Group == *r.SuppressGroup
}

// looksAtSource tells whether the rule's match depends on a packet's source or input interface.
func (r *Rule) looksAtSource() bool { return r.From.IsValid() && r.From.Bits() > 0 || r.IIF != "" }

// String is the rule as `ip rule` shows it, on one line.
func (r *Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", r.Priority)
	word := func(name, value string) { b.WriteString(" " + name + " " + value) }
	if r.Not {
		b.WriteString(" not")
	}
	if r.From.IsValid() {
		word("from", prefixText(r.From))
	} else {
		word("from", "all")
	}
	if r.To.IsValid() {
		word("to", prefixText(r.To))
	}
	if r.TOS != 0 {
		word("tos", fmt.Sprintf("%#x", r.TOS))
	}
	if r.DSCPMask != 0 {
		word("dscp", strconv.Itoa(int(r.DSCP>>2)))
	}
	if r.Mask == 0xffffffff {
		word("fwmark", fmt.Sprintf("%#x", r.Mark))
	} else if r.Mask != 0 {
		word("fwmark", fmt.Sprintf("%#x/%#x", r.Mark, r.Mask))
	}
	for _, w := range []struct{ name, value string }{{"iif", r.IIF}, {"oif", r.OIF}} {
		if w.value != "" {
			word(w.name, w.value)
		}
	}
	if r.L3MDev {
		b.WriteString(" l3mdev")
	}
	if r.UIDs != nil {
		word("uidrange", fmt.Sprintf("%d-%d", r.UIDs.First, r.UIDs.Last))
	}
	if r.Proto != 0 {
		word("ipproto", strconv.Itoa(int(r.Proto)))
	}
	for _, w := range []struct {
		name  string
		ports Ports
	}{{"sport", r.SrcPorts}, {"dport", r.DstPorts}} {
		switch {
		case w.ports == (Ports{}):
		case w.ports.First == w.ports.Last:
			word(w.name, strconv.Itoa(int(w.ports.First)))
		default:
			word(w.name, fmt.Sprintf("%d-%d", w.ports.First, w.ports.Last))
		}
	}
	switch r.Action {
	case ActionTable:
		word("lookup", tableText(r.Table))
	case ActionGoto:
		word("goto", strconv.Itoa(int(r.Goto)))
	case ActionNop:
		b.WriteString(" nop")
	case ActionUnreachable:
		b.WriteString(" unreachable")
	case ActionProhibit:
		b.WriteString(" prohibit")
	default:
		b.WriteString(" blackhole")
	}
	if r.SuppressPrefix != nil {
		word("suppress_prefixlength", strconv.Itoa(*r.SuppressPrefix))
	}
	if r.SuppressGroup != nil {
		word("suppress_ifgroup", strconv.Itoa(int(*r.SuppressGroup)))
	}
	return b.String()
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func tableText(id uint32) string {
	switch id {
	case tableDefault:
		return "default"
	case tableMain:
		return "main"
	case tableLocal:
		return "local"
	}
	return strconv.Itoa(int(id))
}

// text names a route for people.
func (r *Route) text() string {
	kind := map[node.RouteType]string{
		node.RouteBlackhole: "blackhole ", node.RouteUnreachable: "unreachable ", node.RouteProhibit: "prohibit ",
		node.RouteThrow: "throw ", node.RouteLocal: "local ", node.RouteBroadcast: "broadcast ",
	}[r.Type]
	return fmt.Sprintf("the route %s%s of table %s", kind, prefixText(r.Dst), tableText(r.Table))
}
