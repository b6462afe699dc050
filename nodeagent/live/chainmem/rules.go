//go:build linux

package chainmem

import (
	"encoding/binary"
	"fmt"
)

// Rule is what is told of one rule; the slices are valid until the function that gets it returns.
type Rule struct {
	// Number is its place in the chain, from 0 on.
	Number int
	Handle uint64
	// Message is the message of a rule (NFTA_RULE_EXPRESSIONS) that ends behind its leading loads and comparisons.
	Message []byte
	// Shape stands for the kinds of these expressions: other expressions have another.
	Shape []byte
	data  []byte
}

// maxBlob bounds the rules of a chain, in bytes: some hundred thousand of them.
const maxBlob = 64 << 20

// Rules calls f for each rule of the chain at an address, in order. net is the address of the namespace. It returns ErrOdd in
// the chain of an error when the rules do not add up.
func (r *Reader) Rules(net, chain uint64, f func(Rule) error) error {
	clear(r.others)
	r.tried = 0
	blob, err := r.blob(net, chain)
	if err != nil {
		return err
	}
	return r.rules(blob, func(n int, handle uint64, data []byte) error {
		rule := Rule{Number: n, Handle: handle, data: data}
		var err error
		if rule.Message, rule.Shape, err = r.leading(data); err != nil {
			return err
		}
		return f(rule)
	})
}

// blob returns the address of the rules that the datapath runs now.
func (r *Reader) blob(net, chain uint64) (uint64, error) {
	var cursor [1]byte
	if err := r.memory.Bytes(net+uint64(r.layout.cursor), cursor[:]); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrOdd, err)
	}
	at := r.layout.blob0
	switch cursor[0] {
	case 0:
	case 1:
		at = r.layout.blob1
	default:
		return 0, fmt.Errorf("%w: generation %d", ErrOdd, cursor[0])
	}
	blob, err := r.memory.Pointer(chain + uint64(at))
	if err != nil || blob == 0 {
		return 0, fmt.Errorf("%w: no rules at %#x (%v)", ErrOdd, chain, err)
	}
	return blob, nil
}

// rules calls f for each rule of a blob.
func (r *Reader) rules(blob uint64, f func(n int, handle uint64, data []byte) error) error {
	var head [8]byte
	if err := r.memory.Bytes(blob+uint64(r.layout.blobSize), head[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrOdd, err)
	}
	// The mark of the end lies behind what the size counts.
	size := binary.NativeEndian.Uint64(head[:])
	if size > maxBlob {
		return fmt.Errorf("%w: %d bytes of rules", ErrOdd, size)
	}
	left := int(size) + ruleHead
	at := blob + uint64(r.layout.blobData)
	r.rest = r.rest[:0]
	for n := 0; ; {
		// What is left of the piece before, and the next.
		more := min(left, piece)
		b, err := r.bulk(at, more)
		if err != nil {
			return err
		}
		at, left = at+uint64(more), left-more
		if len(r.rest) > 0 {
			r.rest = append(r.rest, b...)
			b = r.rest
		}
		for {
			used, last, err := r.rule(b, n, f)
			if err != nil || last {
				return err
			}
			if used == 0 {
				break
			}
			b, n = b[used:], n+1
		}
		if left == 0 {
			return fmt.Errorf("%w: rules without an end", ErrOdd)
		}
		r.rest = append(r.rest[:0], b...)
	}
}

// rule calls f for the rule at the beginning of b. It returns how many bytes it takes, 0 when it is not whole, and whether the
// mark of the end is in its place.
func (r *Reader) rule(b []byte, n int, f func(n int, handle uint64, data []byte) error) (used int, last bool, err error) {
	if len(b) < ruleHead {
		return 0, false, nil
	}
	head := binary.NativeEndian.Uint64(b)
	if head&1 != 0 {
		return 0, true, nil
	}
	end := ruleHead + int(head>>1&(1<<ruleLengthBits-1))
	if len(b) < end {
		return 0, false, nil
	}
	return end, false, f(n, head>>(1+ruleLengthBits)&(1<<ruleHandleBits-1), b[ruleHead:end])
}

// of reads the field of a structure that begins with b.
func (f field) of(b []byte) uint64 {
	var eight [8]byte
	if f.at < len(b) {
		copy(eight[:], b[f.at:])
	}
	return binary.NativeEndian.Uint64(eight[:]) << f.left >> f.right
}
