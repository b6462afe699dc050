package nftables

import (
	"context"
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

// expr is an NFTA_LIST_ELEM with one expression.
func expr(name string, data ...[]byte) []byte {
	return nest(attrListElement, attrString(attrExprName, name), nest(attrExprData, data...))
}

// ruleMessages are the shapes of messages that the fuzzer starts from.
func ruleMessages() [][]byte {
	wrap := func(exprs ...[]byte) []byte {
		return join(attrString(attrRuleTable, "t"), attrString(attrRuleChain, "c"), attrU64(attrRuleHandle, 5), nest(attrRuleExprs, exprs...),
			attr(attrRuleUserdata, 0, 3, 'h', 'i', 0))
	}
	accept := expr("immediate", attrU32(1, 0), nest(2, nest(attrDataVerdict, attrU32(attrVerdictCode, 1))))
	var out [][]byte
	for name := range decoders {
		var numbers [][]byte
		for i := uint16(1); i <= 8; i++ {
			numbers = append(numbers, attrU32(i, uint32(i%4)))
		}
		out = append(out, wrap(expr(name, numbers...), accept))
	}
	return append(out,
		wrap(expr("payload", attrU32(1, 1), attrU32(2, 2), attrU32(3, 2), attrU32(4, 2)), expr("cmp", attrU32(1, 1), attrU32(2, 0), dataAttr(3, 0, 53)), accept),
		wrap(expr("payload", attrU32(1, 1), attrU32(2, 1), attrU32(3, 12), attrU32(4, 4)),
			expr("bitwise", attrU32(1, 1), attrU32(2, 1), attrU32(3, 4), dataAttr(4, 255, 0, 0, 0), dataAttr(5, 0, 0, 0, 0)), expr("lookup", attrString(1, "s"), attrU32(2, 1))),
		wrap(expr("immediate", attrU32(1, 1), dataAttr(2, 10, 0, 0, 1)), expr("nat", attrU32(1, 1), attrU32(2, 2), attrU32(3, 1))),
		wrap(expr("match", attrString(1, "tcp"), attrU32(2, 0), attr(3, make([]byte, 16)...)), expr("counter", attrU64(1, 5), attrU64(2, 6))),
	)
}

// FuzzDecodeRule holds decoding, evaluation and printing of any message to: no panic.
func FuzzDecodeRule(f *testing.F) {
	for _, b := range ruleMessages() {
		f.Add(b, uint8(node.NFTIPv4), "c")
		f.Add(b, uint8(node.NFTInet), "filter")
	}
	f.Fuzz(func(t *testing.T, b []byte, family uint8, table string) {
		fuzz.Bounded(t, func() {
			r, err := DecodeRule(node.NFTFamily(family), table, "INPUT", b)
			if err != nil {
				return
			}
			if len(r.Exprs) > maxExprs {
				t.Fatalf("%d expressions", len(r.Exprs))
			}
			env := &fakeEnv{sets: map[string][]byte{"s": setMessage("s", SetAnonymous|SetInterval, idPort, 4, 0, 0)}, elements: map[string][][]byte{"s": interval([]byte{1, 2, 3, 4}, []byte{1, 2, 3, 9})}}
			e := &Evaluator{Env: answering{env}}
			r.Counter()
			r.UsesConntrack()
			r.ConntrackFamilies()
			_ = e.Text(t.Context(), r)
			_ = r.Text(nil)
			for _, ends := range [][2]string{{"10.0.0.1:0", "10.0.0.2:53"}, {"[fd00::1]:1", "[fd00::2]:2"}} {
				for _, proto := range []uint8{skb.TCP, skb.UDP, skb.ICMP} {
					p, err := skb.New(proto, netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1]))
					if err != nil {
						t.Fatal(err)
					}
					_, _ = rule.Enumerate(16, func(ch *rule.Chooser) (rule.Result, error) { return e.Eval(t.Context(), r, p.Clone(), ch) })
				}
			}
		})
	})
}

// answering is a fakeEnv that answers all questions of rules.
type answering struct{ *fakeEnv }

func (answering) SourceRules(context.Context, bool) (bool, error) { return false, nil }

func (answering) FIBLookup(context.Context, node.FIBQuery) (node.Route, error) {
	return node.Route{Type: node.RouteUnicast, Out: "eth0"}, nil
}

func (answering) AddrType(context.Context, netip.Addr, string) (node.RouteType, error) {
	return node.RouteLocal, nil
}

func (answering) Route(context.Context, node.RouteQuery) (node.Route, error) {
	return node.Route{Out: "eth0"}, nil
}

func (answering) Addresses(context.Context) ([]node.Address, error) { return nil, nil }

func (answering) Sysctl(context.Context, string) (string, error) { return "", node.ErrNotFound }

func (answering) Listening(context.Context, uint8, netip.AddrPort) ([]node.Socket, error) {
	return nil, nil
}

// FuzzDecodeChain holds the decoders of headers to: no panic.
func FuzzDecodeChain(f *testing.F) {
	f.Add(join(attrString(attrChainTable, "t"), attrString(attrChainName, "c"), attrU64(attrChainHandle, 1), nest(attrChainHook, attrU32(attrHookNumber, 0), attrU32(attrHookPriority, 0xffffff9c), nest(attrHookDevices, attrString(attrDeviceName, "eth0"))),
		attrU32(attrChainPolicy, 0), attrString(attrChainType, "nat"), nest(attrChainCounters, attrU64(1, 2), attrU64(2, 3))))
	f.Add(join(attrString(attrTableName, "t"), attrU32(attrTableFlags, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, func() {
			_, _ = DecodeChain(node.NFTObject{Family: node.NFTInet, Attrs: b})
			_, _ = DecodeTable(node.NFTObject{Family: node.NFTInet, Attrs: b})
			_, _ = DecodeObject(b)
		})
	})
}

// FuzzSet holds the decoders of sets and elements, and the lookup in what they make, to: no panic.
func FuzzSet(f *testing.F) {
	ranged := join(setMessage("s", SetInterval|SetConcat, idIPv4<<6|idPort, 8, 0, 0), nest(attrSetDesc, nest(attrDescConcat, nest(attrListElement, attrU32(attrFieldLen, 4)), nest(attrListElement, attrU32(attrFieldLen, 2)))))
	f.Add(ranged, join(dataAttr(attrElementKey, 10, 0, 0, 1, 0, 80, 0, 0), dataAttr(attrElementKeyEnd, 10, 0, 0, 9, 0, 90, 0, 0)), []byte{10, 0, 0, 5, 0, 85, 0, 0}, []byte{255, 255, 255, 0, 255, 255, 0, 0})
	f.Add(setMessage("s", SetMap, idPort, 2, verdictType, 8), verdictElement(be16(53), verdictGoto, "x"), []byte{0, 53}, []byte{255, 255})
	f.Add(setMessage("s", SetInterval, idIPv4, 4, 0, 0), interval([]byte{10, 0, 0, 0}, []byte{11, 0, 0, 0})[1], []byte{10, 1, 1, 1}, []byte{255, 0, 255, 255})
	f.Fuzz(func(t *testing.T, set, element, key, mask []byte) {
		fuzz.Bounded(t, func() {
			s, err := DecodeSet(set)
			if err != nil {
				return
			}
			env := &fakeEnv{sets: map[string][]byte{s.Name: set}, elements: map[string][][]byte{s.Name: {element, element}}}
			e := &Evaluator{Env: env}
			st, err := e.set(t.Context(), node.NFTIPv4, "t", s.Name)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.all(t.Context(), st); err != nil {
				return
			}
			n := min(len(key), len(mask), s.KeyLen)
			found := st.candidates(value{key[:n], mask[:n]})
			for _, c := range found {
				_ = st.elementKeyText(c.element)
				_ = st.dataText(c.element)
			}
			p := &printer{r: newRule()}
			_ = p.setText(s, st.elements, nil)
		})
	})
}
