//go:build linux

package probe

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

// message is a trace event as nft_trace_notify writes it.
func message(typ uint32, code int32, chain string) []byte {
	b := []byte{byte(node.NFTIPv4), 0, 0, 0}
	b = nlattr.Append(b, unix.NFTA_TRACE_ID, nlattr.BigUint32(7))
	b = nlattr.Append(b, unix.NFTA_TRACE_TYPE, nlattr.BigUint32(typ))
	b = nlattr.Append(b, unix.NFTA_TRACE_TABLE, nlattr.String("kube-proxy"))
	b = nlattr.Append(b, unix.NFTA_TRACE_CHAIN, nlattr.String("services"))
	b = nlattr.Append(b, unix.NFTA_TRACE_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, 12))
	v := nlattr.Append(nil, unix.NFTA_VERDICT_CODE, nlattr.BigUint32(uint32(code)))
	if chain != "" {
		v = nlattr.Append(v, unix.NFTA_VERDICT_CHAIN, nlattr.String(chain))
	}
	b = nlattr.Append(b, unix.NFTA_TRACE_VERDICT|nlattr.Nested, v)
	b = nlattr.Append(b, unix.NFTA_TRACE_POLICY, nlattr.BigUint32(uint32(code)))
	b = nlattr.Append(b, unix.NFTA_TRACE_NETWORK_HEADER, header4)
	return nlattr.Append(b, unix.NFTA_TRACE_TRANSPORT_HEADER, []byte{0x9c, 0x40, 0, 80, 0, 0, 0, 0})
}

var header4 = []byte{0x45, 0, 0, 60, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 96, 0, 25}

func TestEventsAreNamedAsNftNamesThem(t *testing.T) {
	for name, c := range map[string]struct {
		typ   uint32
		code  int32
		chain string
		want  string
	}{
		"jump":   {traceRule, unix.NFT_JUMP, "service-X", "rule jump service-X"},
		"goto":   {traceRule, unix.NFT_GOTO, "service-X", "rule goto service-X"},
		"drop":   {traceRule, nfDrop, "", "rule drop"},
		"queue":  {traceRule, 3<<16 | nfQueue, "", "rule queue"},
		"policy": {tracePolicy, nfAccept, "", "policy accept"},
		"return": {traceReturn, unix.NFT_RETURN, "", "return return"},
	} {
		e, err := decodeEvent(message(c.typ, c.code, c.chain))
		if err != nil || e.id != 7 || e.handle != 12 || e.table != "kube-proxy" || e.chain != "services" || e.typeName()+" "+e.verdict != c.want {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
		want := skb.Tuple{Proto: skb.TCP, Src: netip.MustParseAddrPort("10.0.0.1:40000"), Dst: netip.MustParseAddrPort("10.96.0.25:80")}
		if got, ok := e.tuple(); !ok || got != want {
			t.Errorf("%s: packet %v", name, got)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(message(traceRule, unix.NFT_JUMP, "x"))
	f.Add([]byte{2, 0, 0, 0, 8, 0, 1, 0, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, func() {
			e, err := decodeEvent(b)
			if err == nil {
				_, _ = e.tuple()
				_ = e.typeName()
			}
		})
	})
}

func FuzzDecodeDrop(f *testing.F) {
	rec := make([]byte, recordSize)
	copy(rec[recordHeader:], header4)
	f.Add(rec)
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, func() {
			if d, ok := decodeDrop(b); ok && !d.tuple.Src.IsValid() {
				t.Error("a drop without addresses was taken")
			}
		})
	})
}

func FuzzExtendedError(f *testing.F) {
	f.Add(append([]byte{111, 0, 0, 0, originICMP, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 2, 0, 0, 0, 10, 0, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) { fuzz.Bounded(t, func() { extendedError(b) }) })
}
