//go:build linux

package chainmem

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

// dumps are the functions of the operations at the addresses from 1 on; all others are of expressions that are not looked at.
var dumps = []string{"nft_payload_dump", "nft_meta_get_dump", "nft_cmp_dump [nf_tables]", "nft_cmp_fast_dump", "nft_cmp16_fast_dump", "nft_immediate_dump"}

// imagined is memory in which all operations are there, at any address, and all rules are of the fuzzer.
type imagined struct {
	l     *layout
	rules []byte
}

func (m imagined) Bytes(address uint64, b []byte) error {
	clear(b)
	if len(b) > 8 { // operations
		binary.NativeEndian.PutUint32(b[m.l.opsSize:], uint32(8+address>>3&(maxRule-1)&^7))
		binary.NativeEndian.PutUint64(b[m.l.opsDump:], address&7)
		return nil
	}
	binary.NativeEndian.PutUint64(b, uint64(len(m.rules))) // the size of the rules
	return nil
}

func (m imagined) Pointer(uint64) (uint64, error) { return 0, nil }
func (m imagined) Text(uint64) (string, error)    { return "name", nil }

func (m imagined) Symbol(address uint64) (string, error) {
	if int(address) < len(dumps) {
		return dumps[address], nil
	}
	return "nft_counter_dump", nil
}

func (m imagined) copied(_ uint64, n int) ([]byte, error) {
	b := make([]byte, n)
	copy(b, m.rules)
	return b, nil
}

// layout618 is what Linux 6.18 tells on x86_64.
func layout618() layout {
	byteAt := func(at int) field { return field{at, 56, 56} }
	return layout{blob1: 8, blobData: 8, opsSize: 16, opsDump: 64,
		payloadBase: byteAt(0), payloadOffset: field{2, 48, 48}, payloadLength: 4, payloadRegister: 5, metaKey: byteAt(0), metaRegister: 2,
		cmpOp: byteAt(18), cmpRegister: 16, cmpBytes: 17, fast: fastLayout{0, 8, 9, 10}, fast16: fastLayout{0, 32, 33, 34}, verdictChain: 8}
}

// FuzzRules reads rules that may be anything.
func FuzzRules(f *testing.F) {
	rule := func(expressions ...[]byte) []byte {
		var data []byte
		for _, x := range expressions {
			data = append(data, x...)
		}
		return append(binary.NativeEndian.AppendUint64(nil, uint64(len(data))<<1|7<<13), data...)
	}
	expression := func(ops uint64, data ...byte) []byte {
		return append(binary.NativeEndian.AppendUint64(nil, uint64(len(data))<<3|ops), data...)
	}
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	f.Add(append(rule(expression(0, 1, 0, 16, 0, 4, 4, 0, 0), expression(3, 10, 0, 0, 1, 255, 255, 255, 255, 4, 32, 0, 0, 0, 0, 0, 0)), 1, 0, 0, 0, 0, 0, 0, 0))
	f.Add(append(rule(expression(5, make([]byte, 24)...)), 1, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, func() {
			l := layout618()
			m := imagined{&l, b}
			r := &Reader{memory: m, bulk: m.copied, layout: l, kinds: map[uint64]kind{}, others: map[uint64]kind{}}
			n := 0
			err := r.rules(0, func(number int, _ uint64, data []byte) error {
				if number != n {
					t.Errorf("rule %d comes where rule %d should", number, n)
				}
				n++
				message, shape, err := r.leading(data)
				if err != nil {
					return err
				}
				if err := nlattr.Each(message, func(uint16, []byte) error { return nil }); err != nil || len(shape)%8 != 0 {
					t.Errorf("%x is written down: %v, shape %x", message, err, shape)
				}
				_, err = r.Target(Rule{data: data})
				return err
			})
			if err != nil && !errors.Is(err, ErrOdd) {
				t.Errorf("the error is of no kind: %v", err)
			}
		})
	})
}
