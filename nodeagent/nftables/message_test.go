package nftables

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// attr is one netlink attribute.
func attr(typ uint16, data ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(data)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func attrString(typ uint16, s string) []byte { return attr(typ, append([]byte(s), 0)...) }

func attrU32(typ uint16, v uint32) []byte { return attr(typ, binary.BigEndian.AppendUint32(nil, v)...) }

func attrU64(typ uint16, v uint64) []byte { return attr(typ, binary.BigEndian.AppendUint64(nil, v)...) }

func nest(typ uint16, inner ...[]byte) []byte { return attr(typ|attrNested, join(inner...)...) }

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// dataAttr is NFTA_DATA_VALUE inside attribute typ.
func dataAttr(typ uint16, b ...byte) []byte { return nest(typ, attr(attrDataValue, b...)) }

// setMessage is an NFT_MSG_NEWSET message.
func setMessage(name string, flags SetFlags, keyType, keyLen, dataType, dataLen uint32) []byte {
	return join(attrString(attrSetName, name), attrU32(attrSetFlags, uint32(flags)), attrU32(attrSetKeyType, keyType),
		attrU32(attrSetKeyLen, keyLen), attrU32(attrSetDataType, dataType), attrU32(attrSetDataLen, dataLen))
}

// verdictElement maps a key to a verdict.
func verdictElement(key []byte, code int32, chain string) []byte {
	v := [][]byte{attrU32(attrVerdictCode, uint32(code))}
	if chain != "" {
		v = append(v, attrString(attrVerdictChain, chain))
	}
	return join(dataAttr(attrElementKey, key...), nest(attrElementData, nest(attrDataVerdict, v...)))
}

// fakeEnv answers from maps, and counts what it is asked.
type fakeEnv struct {
	Env
	sets     map[string][]byte
	elements map[string][][]byte
	objects  map[string][]byte
	links    []node.Link
	gets     int
	dumps    int
}

func (f *fakeEnv) NFTSet(_ context.Context, _ node.NFTFamily, _, set string) ([]byte, error) {
	if b, ok := f.sets[set]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("set %s: %w", set, node.ErrNotFound)
}

func (f *fakeEnv) NFTElement(_ context.Context, _ node.NFTFamily, _, set string, key []byte) ([]byte, error) {
	f.gets++
	for _, b := range f.elements[set] {
		e, err := DecodeElement(b)
		if err != nil {
			return nil, err
		}
		if e.CatchAll && len(key) == 0 || !e.CatchAll && string(e.Key) == string(key) {
			return b, nil
		}
	}
	return nil, node.ErrNotFound
}

func (f *fakeEnv) NFTElements(_ context.Context, _ node.NFTFamily, _, set string) ([][]byte, error) {
	f.dumps++
	return f.elements[set], nil
}

func (f *fakeEnv) NFTObject(_ context.Context, _ node.NFTFamily, _, name string, _ uint32) ([]byte, error) {
	if b, ok := f.objects[name]; ok {
		return b, nil
	}
	return nil, node.ErrNotFound
}

func (f *fakeEnv) Links(context.Context) ([]node.Link, error) { return f.links, nil }

// newRule makes a rule of expressions.
func newRule(exprs ...Expr) *Rule {
	r := &Rule{Family: node.NFTIPv4, Table: "t", Chain: "c", Handle: 7, Exprs: exprs, last: -1}
	for i, x := range exprs {
		if x.effect() {
			r.last = i
		}
	}
	return r
}

func drop() Expr { return &Immediate{Verdict: &Verdict{Code: nfDrop}} }

// udpPacket is a UDP packet whose source port is not known.
func udpPacket(t *testing.T) *skb.Packet {
	t.Helper()
	p, err := skb.New(skb.UDP, netip.MustParseAddrPort("10.0.0.1:0"), netip.MustParseAddrPort("10.0.0.2:53"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// way is one branch of an evaluation, in words.
type way struct {
	Result     string
	P          string
	Assumption []string
}

// run evaluates a rule for every combination of choices.
func run(t *testing.T, e *Evaluator, r *Rule, p *skb.Packet) []way {
	t.Helper()
	branches, err := rule.Enumerate(100, func(ch *rule.Chooser) (rule.Result, error) {
		return e.Eval(t.Context(), r, p.Clone(), ch)
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []way
	for _, b := range branches {
		w := way{Result: "no match", P: b.P.RatString()}
		if b.Value.Matched {
			w.Result = "match " + b.Value.Action
		}
		for _, a := range b.Assumptions {
			w.Assumption = append(w.Assumption, a.String())
		}
		out = append(out, w)
	}
	return out
}

// run2 evaluates two rules, one after the other, on the same packet, and returns what the second did.
func run2(t *testing.T, e *Evaluator, first, second *Rule, p *skb.Packet) []way {
	t.Helper()
	branches, err := rule.Enumerate(100, func(ch *rule.Chooser) (rule.Result, error) {
		q := p.Clone()
		if _, err := e.Eval(t.Context(), first, q, ch); err != nil {
			return rule.Result{}, err
		}
		return e.Eval(t.Context(), second, q, ch)
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []way
	for _, b := range branches {
		w := way{Result: "no match", P: b.P.RatString()}
		if b.Value.Matched {
			w.Result = "match " + b.Value.Action
		}
		for _, a := range b.Assumptions {
			w.Assumption = append(w.Assumption, a.String())
		}
		out = append(out, w)
	}
	return out
}
