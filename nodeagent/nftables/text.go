package nftables

import (
	"context"
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Names tells a rule's text what stands outside the rule: the contents of anonymous sets and the names of interfaces.
type Names interface {
	// Elements returns a set and its elements.
	Elements(f node.NFTFamily, table, set string) (*Set, []*Element, error)
	// Link names the interface with an index; "" when there is none.
	Link(index uint32) string
	// CompatText prints iptables extensions; nil when they cannot be printed.
	CompatText() Compat
}

// Text returns the rule as the user's own tool prints it: a rule of iptables-nft as iptables-save does
// ("-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT"), any other as nft list does (nft 1.0.6, with counters). names may be
// nil: then anonymous sets print as a reference.
func (r *Rule) Text(names Names) string {
	if s, ok := r.iptablesText(names); ok {
		return s
	}
	p := &printer{r: r, names: names}
	switch r.Family {
	case node.NFTIPv4:
		p.family = skb.IPv4
	case node.NFTIPv6:
		p.family = skb.IPv6
	}
	for i := 0; i < len(r.Exprs); i++ {
		p.expr(r.Exprs[i])
	}
	text := p.join()
	if r.Comment != "" {
		text = strings.TrimSpace(text + ` comment "` + r.Comment + `"`)
	}
	return text
}

// Text returns the rule's text with everything that the Evaluator can find out.
func (e *Evaluator) Text(ctx context.Context, r *Rule) string { return r.Text(evaluatorNames{ctx, e}) }

type evaluatorNames struct {
	ctx context.Context
	e   *Evaluator
}

func (n evaluatorNames) Elements(f node.NFTFamily, table, set string) (*Set, []*Element, error) {
	s, err := n.e.set(n.ctx, f, table, set)
	if err != nil {
		return nil, nil, err
	}
	if s.Flags&SetAnonymous == 0 {
		return s.Set, nil, nil
	}
	if err := n.e.all(n.ctx, s); err != nil {
		return nil, nil, err
	}
	return s.Set, append(s.elements[:len(s.elements):len(s.elements)], catchAlls(s)...), nil
}

func catchAlls(s *setState) []*Element {
	if s.catchAll == nil {
		return nil
	}
	return []*Element{s.catchAll}
}

func (n evaluatorNames) Link(index uint32) string {
	st := &state{ctx: n.ctx, e: n.e}
	if name, err := st.linkName(knownHost32(index)); err == nil && name != fmt.Sprint(index) {
		return name
	}
	return ""
}

func (n evaluatorNames) CompatText() Compat { return n.e.Compat }

// statement is a piece of a rule's text. A statement that only sets up the next one is a dependency, and is not printed
// when the next one implies it.
type statement struct {
	text string
	gone bool
}

// printer rebuilds nft's statements from the kernel's expressions.
type printer struct {
	r     *Rule
	names Names
	regs  [regWords]*symbol
	out   []*statement
	// family and proto are what matches so far have settled; 0 when not.
	family skb.Family
	proto  uint8
	// networkDep and transportDep are the statements that did so, while a later one may take their place.
	linkDep, networkDep, transportDep *statement
	// ether tells that the link layer is Ethernet.
	ether bool
	// transportByPayload tells that transportDep is a payload match ("ip protocol tcp").
	transportByPayload bool
	// lower is the match that a range's second half completes.
	lower     *statement
	lowerFrom *symbol
	lowerData []byte
}

func (p *printer) join() string {
	var out []string
	for _, s := range p.out {
		if !s.gone && s.text != "" {
			out = append(out, s.text)
		}
	}
	return strings.Join(out, " ")
}

// match appends a condition.
func (p *printer) match(format string, args ...any) *statement {
	s := &statement{text: fmt.Sprintf(format, args...)}
	p.out = append(p.out, s)
	return s
}

// do appends a statement that is not a condition: dependencies before it stay.
func (p *printer) do(format string, args ...any) {
	p.match(format, args...)
	p.linkDep, p.networkDep, p.transportDep = nil, nil, nil
}

// need says that what is printed next implies a header of the given base: the match that stated it is not printed.
func (p *printer) need(base uint32) {
	switch base {
	case baseLink:
		if p.linkDep != nil {
			p.linkDep.gone = true
			p.linkDep = nil
		}
	case baseNetwork:
		if p.networkDep != nil {
			p.networkDep.gone = true
			p.networkDep = nil
		}
	case baseTransport:
		if p.transportDep != nil && !(p.transportByPayload && p.inet()) {
			p.transportDep.gone = true
			p.transportDep = nil
		}
	}
}

// implied is need for a field of a header. ICMP implies its address family too.
func (p *printer) implied(h *header) {
	p.need(h.base)
	if h.name == "icmp" && p.family == skb.IPv4 || h.name == "icmpv6" && p.family == skb.IPv6 {
		p.need(baseNetwork)
	}
}

// applies reports whether a header can be at a base, by what the rule has matched so far.
func (p *printer) applies(h *header, base uint32) bool {
	if h.base != base || h.family != 0 && h.family != p.family {
		return false
	}
	switch {
	case h.name == "ether":
		return p.ether || p.r.Family == node.NFTNetdev || p.r.Family == node.NFTBridge
	case h.name == "th":
		return !hasHeader(p.proto)
	}
	return h.proto == 0 || h.proto == p.proto
}

// field returns the header and field at given bits, by what the rule has matched so far.
func (p *printer) field(base, offset, n uint32) (*header, *field) {
	for _, h := range headers {
		if !p.applies(h, base) {
			continue
		}
		for i := range h.fields {
			if h.fields[i].is(offset, n) {
				return h, &h.fields[i]
			}
		}
	}
	return nil, nil
}

// inet reports whether the table holds packets of several families.
func (p *printer) inet() bool {
	switch p.r.Family {
	case node.NFTIPv4, node.NFTIPv6:
		return false
	}
	return true
}

// quoteIndex prints an interface index as its name.
func (p *printer) quoteIndex(index uint32) string {
	if p.names != nil {
		if name := p.names.Link(index); name != "" {
			return `"` + name + `"`
		}
	}
	return fmt.Sprint(index)
}
