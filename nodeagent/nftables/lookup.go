package nftables

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// maxCandidates bounds the elements that a key with unknown bits forks into.
const maxCandidates = 64

// Lookup searches a set for a key; in a map it loads what it finds (net/netfilter/nft_lookup.c).
type Lookup struct {
	Set    string
	Source register
	// Dest receives a map's value when HasDest.
	Dest     register
	HasDest  bool
	Inverted bool
}

func decodeLookup(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(5)
	if err != nil {
		return nil, err
	}
	x := &Lookup{Set: t.str(1), HasDest: t.has(3), Inverted: t.u32(5)&1 != 0}
	if x.Set == "" {
		return nil, fmt.Errorf("%w: no set", ErrMalformed)
	}
	if x.Source, err = parseRegister(t.u32(2)); err != nil {
		return nil, err
	}
	if x.Dest, err = parseRegister(t.u32(3)); err != nil {
		return nil, err
	}
	return x, nil
}

// Name returns lookup.
func (x *Lookup) Name() string { return "lookup" }

// effect is true for verdict maps.
func (x *Lookup) effect() bool { return x.HasDest && x.Dest == regVerdict }

func (x *Lookup) eval(st *state) (bool, error) {
	s, err := st.e.set(st.ctx, st.r.Family, st.r.Table, x.Set)
	if err != nil {
		return false, err
	}
	v := st.regs.load(x.Source, s.KeyLen)
	e, err := st.find(s, x.Source, v)
	if err != nil || st.stopped {
		return false, err
	}
	if (e != nil) == x.Inverted {
		return false, nil
	}
	if e == nil {
		if s.Flags&SetAnonymous == 0 && v.all() {
			st.say("%s is not in %s", s.keyText(v.b), s.Name)
		}
		return true, nil
	}
	if v.all() && s.Flags&SetAnonymous == 0 {
		st.say("%s", x.says(s, v.b, e))
	}
	if x.HasDest && e.Verdict == nil {
		st.regs.store(x.Dest, known(e.Data), source{})
	}
	if cont, err := st.evalExprs(e.Exprs); err != nil || !cont {
		return false, err
	}
	if x.HasDest && e.Verdict != nil {
		return st.verdict(*e.Verdict), nil
	}
	return true, nil
}

func (x *Lookup) says(s *setState, key []byte, e *Element) string {
	text := s.keyText(key)
	switch {
	case e.CatchAll:
		return fmt.Sprintf("%s is in %s by its catch-all element", text, s.Name)
	case s.Flags&SetInterval != 0 && s.elementKeyText(e) != text:
		return fmt.Sprintf("%s is in %s of %s", text, s.elementKeyText(e), s.Name)
	}
	return fmt.Sprintf("%s is in %s", text, s.Name)
}

// evalExprs runs the stateful expressions of an element: a limit that is exceeded breaks the rule.
func (st *state) evalExprs(exprs []Expr) (bool, error) {
	for _, x := range exprs {
		if cont, err := x.eval(st); err != nil || !cont || st.stopped {
			return false, err
		}
	}
	return true, nil
}

// find returns the element that a key belongs to, nil when it is in none. Where unknown bits decide it forks.
func (st *state) find(s *setState, at register, v value) (*Element, error) {
	if in, ok, open := st.touched(s.Name, v); ok {
		if in {
			return &Element{Key: v.b}, nil
		}
		return nil, nil
	} else if open && st.unknown("what the packet itself did to set "+s.Name) {
		return &Element{Key: v.b}, nil
	}
	if st.stopped {
		return nil, nil
	}
	// A set without elements is read whole: there is nothing in it but perhaps a catch-all element, which is not counted.
	if v.all() && !s.read && s.Flags&(SetInterval|SetAnonymous) == 0 && s.Count != 0 {
		return st.e.one(st.ctx, s, v.b)
	}
	if err := st.e.all(st.ctx, s); err != nil {
		return nil, err
	}
	found := s.candidates(v)
	if len(found) == 0 {
		return s.catchAll, nil
	}
	if found[0].truth == yes {
		return found[0].element, nil
	}
	if s.catchAll != nil && slices.IndexFunc(found, func(c candidate) bool { return !sameData(c.element, s.catchAll) }) < 0 {
		return s.catchAll, nil
	}
	return st.choose(s, at, v, found)
}

// choose forks over the elements that a key with unknown bits may belong to. Elements that mean the same are one branch.
func (st *state) choose(s *setState, at register, v value, found []candidate) (*Element, error) {
	label := st.unknownLabel(at, v)
	for len(found) > 0 {
		if len(found) > maxCandidates && s.Flags&SetMap != 0 {
			if st.unknown(fmt.Sprintf("which of %d elements of map %s %s belongs to", len(found), s.Name, label)) {
				return found[0].element, nil
			}
			return nil, nil
		}
		first := found[0]
		rest := found[:0:0]
		group := []candidate{first}
		for _, c := range found[1:] {
			if sameData(c.element, first.element) {
				group = append(group, c)
			} else {
				rest = append(rest, c)
			}
		}
		if st.depends(s.condition(label, v, group)) {
			if len(group) == 1 && first.to == nil && s.KeyLen <= 4 {
				refine(st.p, st.regs.from[at], first.from)
			}
			return first.element, nil
		}
		if st.stopped {
			return nil, nil
		}
		found = rest
	}
	return s.catchAll, nil
}

// condition says in words when one of the elements of a group is found.
func (s *setState) condition(label string, v value, group []candidate) string {
	if len(group) > 8 {
		return fmt.Sprintf("%s is in @%s", label, s.Name)
	}
	texts := make([]string, len(group))
	for i, c := range group {
		texts[i] = s.elementKeyText(c.element)
	}
	if len(texts) == 1 {
		return fmt.Sprintf("%s is %s", label, texts[0])
	}
	return fmt.Sprintf("%s is one of %s", label, strings.Join(texts, ", "))
}

// unknownLabel names the fields of a key that are not known.
func (st *state) unknownLabel(at register, v value) string {
	var labels []string
	for w := range (len(v.b) + 3) / 4 {
		word := value{v.b[w*4 : min(w*4+4, len(v.b))], v.known[w*4 : min(w*4+4, len(v.b))]}
		if int(at)+w >= regWords || word.all() {
			continue
		}
		if l := st.regs.from[int(at)+w].label; l != "" && !slices.Contains(labels, l) {
			labels = append(labels, l)
		}
	}
	if len(labels) == 0 {
		return "a key"
	}
	return strings.Join(labels, " . ")
}

func sameData(a, b *Element) bool {
	if len(a.Exprs) > 0 || len(b.Exprs) > 0 || a.Object != b.Object || !bytes.Equal(a.Data, b.Data) {
		return false
	}
	if a.Verdict == nil || b.Verdict == nil {
		return a.Verdict == b.Verdict
	}
	return *a.Verdict == *b.Verdict
}
