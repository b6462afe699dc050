package xtables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
)

// tri is an answer that may not be known.
type tri uint8

const (
	no tri = iota
	yes
	maybe
)

func triOf(b bool) tri {
	if b {
		return yes
	}
	return no
}

// not negates what is known.
func (t tri) not() tri {
	switch t {
	case no:
		return yes
	case yes:
		return no
	}
	return maybe
}

// decide settles an answer: what is not known becomes a fork on the condition.
func decide(ch *rule.Chooser, t tri, condition string) bool {
	if t == maybe {
		return ch.Depends(condition)
	}
	return t == yes
}

// same tells whether value&mask equals want, given which bits of value are known. want may have bits outside mask: then
// it never does.
func same(value, known, mask, want []byte) tri {
	answer := yes
	for i := range value {
		if (value[i]^want[i])&mask[i]&known[i] != 0 || want[i]&^mask[i] != 0 {
			return no
		}
		if mask[i]&^known[i] != 0 {
			answer = maybe
		}
	}
	return answer
}

// number is an unsigned integer of which some bits may not be known.
type number struct{ value, known, width uint64 }

// numberOf reads big-endian bytes.
func numberOf(value, known []byte) number {
	n := number{width: 1<<(8*len(value)) - 1}
	for i := range value {
		n.value, n.known = n.value<<8|uint64(value[i]), n.known<<8|uint64(known[i])
	}
	return n
}

// exact is a number that is known.
func exact(v uint64) number { return number{value: v, known: ^uint64(0), width: ^uint64(0)} }

func (n number) certain() bool { return n.known&n.width == n.width }

// within tells whether the number lies in [low, high].
func (n number) within(low, high uint64) tri {
	least, most := n.value&n.known&n.width, (n.value&n.known|^n.known)&n.width
	switch {
	case low > high || most < low || least > high:
		return no
	case least >= low && most <= high:
		return yes
	}
	return maybe
}

// plus adds a constant: exact stays exact, anything else becomes entirely unknown when bits are missing.
func (n number) plus(d int64) number {
	if n.certain() {
		return exact(n.value&n.width + uint64(d))
	}
	return number{width: n.width}
}

// span prints a range as iptables conditions do: one number, or first:last.
func span(low, high uint64) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d:%d", low, high)
}
