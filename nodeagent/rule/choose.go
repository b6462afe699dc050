// Package rule holds what every kind of rule shares: how an evaluation forks, and how a rule ends.
//
// Evaluators (xtables, nftables) are straight-line code. Where the outcome is not settled by the state, they ask a
// Chooser; Enumerate then runs them once for every combination of answers. So a rule with "statistic mode random" has
// two branches with exact probabilities, and a rule with an extension that is not modelled has two branches that both
// say so.
package rule

import (
	"fmt"
	"math/big"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// Option is one way an evaluation can go on.
//
// Exactly one of the three says what decides: P (chance), Condition (something that the state does not settle: a rate,
// the time, a payload), or Unknown (something that is not modelled).
type Option struct {
	// P is the probability of this option; the options of one choice add up to 1.
	P *big.Rat
	// Condition says in words what must hold for this option, for example "rate limit 10/second not exceeded".
	Condition string
	// Negation is true when the condition's words say what must NOT hold. The two options of one question carry the same
	// Condition and opposite Negation, so that branches which end alike can be joined again.
	Negation bool
	// Unknown names what is not modelled.
	Unknown *trace.Unknown
}

// Assumption is an Option with a condition or something unknown that a branch has taken.
type Assumption struct {
	Condition string
	Unknown   *trace.Unknown
	Negation  bool
	// Words say what is assumed of something unknown; empty: that it matches.
	Words string
}

// String returns the condition in words.
func (a Assumption) String() string {
	s := a.Condition
	if a.Unknown != nil {
		s = a.Unknown.What
		if a.Unknown.Where != "" {
			s += " in " + a.Unknown.Where
		}
		s += " matches"
	}
	if a.Words != "" {
		s = a.Words
	}
	if a.Negation {
		return "not: " + s
	}
	return s
}

// Branch is one way an evaluation went.
type Branch[T any] struct {
	Value T
	// P is the product of the probabilities of its chance options; 1 when there were none.
	P *big.Rat
	// Assumptions are its conditions and unknowns, in the order they were met.
	Assumptions []Assumption
}

// Chooser decides at forks. The zero value is not usable; Enumerate makes them.
type Chooser struct {
	script []int // answers to give
	made   []made
}

type made struct {
	options []Option
	taken   int
}

// ErrTooManyBranches is returned by Enumerate when an evaluation forks without end.
var ErrTooManyBranches = fmt.Errorf("the evaluation has too many branches")

// Choose returns the index of the option to take. With a single option it returns 0.
func (c *Chooser) Choose(options ...Option) int {
	if len(options) <= 1 {
		return 0
	}
	taken := 0
	if n := len(c.made); n < len(c.script) {
		taken = c.script[n]
	}
	c.made = append(c.made, made{options, taken})
	return taken
}

// Chance is a choice of two: true with probability p. p of 0 or less never, of 1 or more always happens.
func (c *Chooser) Chance(p *big.Rat) bool {
	one := big.NewRat(1, 1)
	if p.Sign() <= 0 {
		return false
	}
	if p.Cmp(one) >= 0 {
		return true
	}
	return c.Choose(Option{P: p}, Option{P: new(big.Rat).Sub(one, p)}) == 0
}

// Depends is a choice that something outside the state decides; condition says in words what makes it true.
func (c *Chooser) Depends(condition string) bool {
	return c.Choose(Option{Condition: condition}, Option{Condition: condition, Negation: true}) == 0
}

// Unknown is a choice about something that is not modelled.
func (c *Chooser) Unknown(what, where string) bool {
	u := &trace.Unknown{What: what, Where: where}
	return c.Choose(Option{Unknown: u}, Option{Unknown: u, Negation: true}) == 0
}

// Uniform is a choice among n equally likely values, 0 to n-1.
func (c *Chooser) Uniform(n int) int {
	if n <= 1 {
		return 0
	}
	options := make([]Option, n)
	p := big.NewRat(1, int64(n))
	for i := range options {
		options[i].P = p
	}
	return c.Choose(options...)
}

// Forked reports whether any choice was made so far.
func (c *Chooser) Forked() bool { return len(c.made) > 0 }

// Enumerate runs f once for every combination of choices that it asks for, in order, and returns the branches. f must
// be deterministic but for its choices, and must start from the same state each time. At most limit branches are made.
func Enumerate[T any](limit int, f func(*Chooser) (T, error)) ([]Branch[T], error) {
	var out []Branch[T]
	var script []int
	for {
		c := &Chooser{script: script}
		v, err := f(c)
		if err != nil {
			return nil, err
		}
		if len(out) >= limit {
			return nil, ErrTooManyBranches
		}
		out = append(out, branch(v, c.made))
		// The next combination: advance the last choice that has options left.
		i := len(c.made) - 1
		for i >= 0 && c.made[i].taken+1 >= len(c.made[i].options) {
			i--
		}
		if i < 0 {
			return out, nil
		}
		script = make([]int, i+1)
		for j := range script {
			script[j] = c.made[j].taken
		}
		script[i]++
	}
}

var one = big.NewRat(1, 1)

func branch[T any](v T, taken []made) Branch[T] {
	b := Branch[T]{Value: v, P: one}
	for _, m := range taken {
		o := m.options[m.taken]
		if o.P != nil {
			b.P = new(big.Rat).Mul(b.P, o.P)
		} else {
			b.Assumptions = append(b.Assumptions, Assumption{Condition: o.Condition, Unknown: o.Unknown, Negation: o.Negation})
		}
	}
	return b
}
