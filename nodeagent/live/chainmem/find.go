//go:build linux

package chainmem

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of the search for a chain: the rules of one chain that are looked at, and of all. Beyond them a dump is quicker.
const (
	maxLooked = 256
	maxRules  = 1024
)

// ErrFar says that a chain was not found near the others.
var ErrFar = errors.New("the chain is not near those that are known")

// errEnough ends the reading of a chain.
var errEnough = errors.New("enough")

// Find looks for a chain of a name among chains of its table and those that they jump to, directly or by way of others. It
// returns ErrFar when it is not among them.
func (r *Reader) Find(net uint64, from []uint64, name string) (uint64, error) {
	seen := map[uint64]bool{}
	var near []uint64
	is := func(chain uint64) (bool, error) {
		if seen[chain] {
			return false, nil
		}
		seen[chain] = true
		near = append(near, chain)
		n, err := r.text(chain + uint64(r.name))
		return n == name, err
	}
	for _, c := range from {
		if found, err := is(c); found || err != nil {
			return c, err
		}
	}
	left := maxRules
	for i := 0; i < len(near) && left > 0; i++ {
		var found uint64
		err := r.Rules(net, near[i], func(rule Rule) error {
			if left--; left < 0 || rule.Number == maxLooked {
				return errEnough
			}
			to, err := r.Target(rule)
			if err != nil || to == 0 {
				return err
			}
			it, err := is(to)
			if it && err == nil {
				found, err = to, errEnough
			}
			return err
		})
		if found != 0 {
			return found, nil
		}
		if err != nil && !errors.Is(err, errEnough) {
			return 0, err
		}
	}
	return 0, ErrFar
}

// The codes of verdicts that go to another chain, as in include/uapi/linux/netfilter/nf_tables.h.
const (
	verdictJump = -3
	verdictGoto = -4
)

// Target returns the address of the chain that a rule jumps or goes to, 0 when its verdict does not name one.
func (r *Reader) Target(rule Rule) (uint64, error) {
	l := &r.layout
	data := rule.data
	for len(data) >= exprHead {
		k, err := r.kind(binary.NativeEndian.Uint64(data))
		if err != nil {
			return 0, err
		}
		if k.size > len(data) {
			return 0, fmt.Errorf("%w: an expression of %d bytes in %d", ErrOdd, k.size, len(data))
		}
		if x := data[exprHead:k.size]; k.what == immediate && x[immediateRegister] == 0 {
			verdict := x[immediateData:immediateRegister]
			switch int32(binary.NativeEndian.Uint32(verdict[l.verdictCode:])) {
			case verdictJump, verdictGoto:
				return binary.NativeEndian.Uint64(verdict[l.verdictChain:]), nil
			}
			return 0, nil
		}
		data = data[k.size:]
	}
	return 0, nil
}
