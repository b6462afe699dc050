package nftables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// maxElements bounds what is kept of one set.
const maxElements = 1 << 20

type setKey struct {
	family      node.NFTFamily
	table, name string
}

// setState is a set and what has been read of it.
type setState struct {
	*Set
	key setKey
	// elements are all elements, once they have been read.
	elements []*Element
	read     bool
	// spans are the intervals of an interval set without concatenation.
	spans []span
	// single are elements that were asked for one by one; nil for keys that are not there.
	single map[string]*Element
	// catchAll is the element that matches what no other does.
	catchAll      *Element
	catchAllKnown bool
}

// span is an interval of keys, both ends included.
type span struct {
	from, to []byte
	element  *Element
}

// set returns a set of the rule's table.
func (e *Evaluator) set(ctx context.Context, f node.NFTFamily, table, name string) (*setState, error) {
	k := setKey{f, table, name}
	if s, ok := e.sets[k]; ok {
		return s, nil
	}
	b, err := e.Env.NFTSet(ctx, f, table, name)
	if err != nil {
		return nil, fmt.Errorf("reading set %s of table %s %s: %w", name, f, table, err)
	}
	s, err := DecodeSet(b)
	if err != nil {
		return nil, err
	}
	if e.sets == nil {
		e.sets = make(map[setKey]*setState)
	}
	state := &setState{Set: s, key: k, single: make(map[string]*Element)}
	e.sets[k] = state
	return state, nil
}

// all reads the whole set, once.
func (e *Evaluator) all(ctx context.Context, s *setState) error {
	if s.read {
		return nil
	}
	list, err := e.Env.NFTElements(ctx, s.key.family, s.key.table, s.key.name)
	if err != nil {
		return fmt.Errorf("reading the elements of set %s of table %s %s: %w", s.Name, s.key.family, s.key.table, err)
	}
	if len(list) > maxElements {
		return fmt.Errorf("set %s of table %s %s has %d elements: more than %d are not held", s.Name, s.key.family, s.key.table, len(list), maxElements)
	}
	var elements []*Element
	for _, b := range list {
		x, err := DecodeElement(b)
		if err != nil {
			return fmt.Errorf("set %s of table %s %s: %w", s.Name, s.key.family, s.key.table, err)
		}
		if x.CatchAll && len(x.Key) == 0 {
			if !x.Expired() {
				s.catchAll = x
			}
			continue
		}
		if len(x.Key) != s.KeyLen {
			return fmt.Errorf("set %s of table %s %s: %w: a key of %d bytes for %d", s.Name, s.key.family, s.key.table, ErrMalformed, len(x.Key), s.KeyLen)
		}
		elements = append(elements, x)
	}
	s.elements, s.read, s.catchAllKnown = elements, true, true
	if s.Flags&SetInterval != 0 && !s.ranged() {
		s.spans = makeSpans(elements)
	}
	return nil
}

// makeSpans joins the starts and ends of an interval set, which the kernel keeps as separate elements in a tree
// (net/netfilter/nft_set_rbtree.c): a key belongs to the greatest start that is not behind it, unless an end lies between.
func makeSpans(elements []*Element) []span {
	sorted := slices.Clone(elements)
	// At one key the end of the interval before comes first.
	slices.SortStableFunc(sorted, func(a, b *Element) int {
		if c := bytes.Compare(a.Key, b.Key); c != 0 || a.End == b.End {
			return c
		}
		if a.End {
			return -1
		}
		return 1
	})
	var out []span
	for i, x := range sorted {
		if x.End || x.Expired() {
			continue
		}
		to := bytes.Repeat([]byte{0xff}, len(x.Key))
		if i+1 < len(sorted) {
			to = before(sorted[i+1].Key)
		}
		if bytes.Compare(x.Key, to) <= 0 {
			out = append(out, span{x.Key, to, x})
		}
	}
	return out
}

// before returns key - 1.
func before(key []byte) []byte {
	out := bytes.Clone(key)
	for i := len(out) - 1; i >= 0; i-- {
		out[i]--
		if out[i] != 0xff {
			break
		}
	}
	return out
}

// one asks for a single key of a set that the kernel can search by key. The element is nil when there is none.
func (e *Evaluator) one(ctx context.Context, s *setState, key []byte) (*Element, error) {
	x, ok := s.single[string(key)]
	if !ok {
		var err error
		if x, err = e.get(ctx, s, key); err != nil {
			return nil, err
		}
		s.single[string(key)] = x
	}
	if x != nil {
		return x, nil
	}
	if !s.catchAllKnown {
		var err error
		if s.catchAll, err = e.get(ctx, s, nil); err != nil {
			return nil, err
		}
		s.catchAllKnown = true
	}
	return s.catchAll, nil
}

func (e *Evaluator) get(ctx context.Context, s *setState, key []byte) (*Element, error) {
	b, err := e.Env.NFTElement(ctx, s.key.family, s.key.table, s.key.name, key)
	if errors.Is(err, node.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading an element of set %s of table %s %s: %w", s.Name, s.key.family, s.key.table, err)
	}
	x, err := DecodeElement(b)
	if err != nil {
		return nil, fmt.Errorf("set %s of table %s %s: %w", s.Name, s.key.family, s.key.table, err)
	}
	if x.Expired() {
		return nil, nil
	}
	return x, nil
}

// match tells whether an element of a set without intervals, or of a ranged concatenation, holds v.
func (s *setState) match(x *Element, v value) truth {
	if x.Expired() {
		return no
	}
	if !s.ranged() || x.KeyEnd == nil {
		return v.equals(x.Key)
	}
	t := yes
	at := 0
	for _, n := range s.Fields {
		if at+n > len(v.b) || at+n > len(x.Key) {
			return maybe
		}
		switch (value{v.b[at : at+n], v.known[at : at+n]}).within(x.Key[at:at+n], x.KeyEnd[at:at+n]) {
		case no:
			return no
		case maybe:
			t = maybe
		}
		at += (n + 3) &^ 3
	}
	return t
}

// candidate is an element that a key may belong to.
type candidate struct {
	element *Element
	truth   truth
	from    []byte
	to      []byte
}

// candidates returns the elements that v may belong to: a single one when the known bits decide.
func (s *setState) candidates(v value) []candidate {
	var out []candidate
	if s.Flags&SetInterval != 0 && !s.ranged() {
		for _, sp := range s.spans {
			if t := v.within(sp.from, sp.to); t == yes {
				return []candidate{{sp.element, yes, sp.from, sp.to}}
			} else if t == maybe {
				out = append(out, candidate{sp.element, maybe, sp.from, sp.to})
			}
		}
		return out
	}
	for _, x := range s.elements {
		if t := s.match(x, v); t == yes {
			return []candidate{{x, yes, x.Key, x.KeyEnd}}
		} else if t == maybe {
			out = append(out, candidate{x, maybe, x.Key, x.KeyEnd})
		}
	}
	return out
}
