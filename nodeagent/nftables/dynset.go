package nftables

import "fmt"

// Operations of a Dynset (enum nft_dynset_ops).
const (
	dynsetAdd = iota
	dynsetUpdate
	dynsetDelete
)

// Dynset adds an element to a set, or removes it (net/netfilter/nft_dynset.c).
type Dynset struct {
	Set       string
	Operation uint32
	Key, Data register
	HasData   bool
	// TimeoutMillis is the timeout of new elements, 0 for the set's.
	TimeoutMillis uint64
	Inverted      bool
	Exprs         []Expr
}

func decodeDynset(b []byte, depth int) (Expr, error) {
	t, err := attributes(b).find(10)
	if err != nil {
		return nil, err
	}
	x := &Dynset{Set: t.str(1), Operation: t.u32(3), HasData: t.has(5), TimeoutMillis: t.u64(6), Inverted: t.u32(9)&1 != 0}
	if x.Set == "" {
		return nil, fmt.Errorf("%w: no set", ErrMalformed)
	}
	if x.Operation > dynsetDelete {
		return &Opaque{Type: "dynset", Why: fmt.Sprintf("operation %d", x.Operation), Raw: append([]byte(nil), b...)}, nil
	}
	if x.Key, err = parseRegister(t.u32(4)); err != nil {
		return nil, err
	}
	if x.Data, err = parseRegister(t.u32(5)); err != nil {
		return nil, err
	}
	x.Exprs, err = decodeStateful(&t, 7, 10, depth+1)
	return x, err
}

// Name returns dynset.
func (x *Dynset) Name() string { return "dynset" }

// effect is true: a later rule may look the set up.
func (x *Dynset) effect() bool { return true }

func (x *Dynset) operation() string {
	return [...]string{"add", "update", "delete"}[x.Operation]
}

// eval lets the rule go on when the element is in the set or there is room for it: then its expressions run, so that a
// limit may end the rule. What it does to the set is noted on the packet.
func (x *Dynset) eval(st *state) (bool, error) {
	if x.Operation == dynsetDelete {
		s, err := st.e.set(st.ctx, st.r.Family, st.r.Table, x.Set)
		if err != nil {
			return false, err
		}
		x.note(st, s, st.regs.load(x.Key, s.KeyLen), true)
		return true, nil
	}
	s, err := st.e.set(st.ctx, st.r.Family, st.r.Table, x.Set)
	if err != nil {
		return false, err
	}
	v := st.regs.load(x.Key, s.KeyLen)
	exprs := x.Exprs
	if len(exprs) == 0 {
		exprs = s.Exprs
	}
	var e *Element
	if v.all() && s.Flags&(SetInterval|SetAnonymous) == 0 {
		if e, err = st.e.one(st.ctx, s, v.b); err != nil {
			return false, err
		}
	}
	stored := e != nil && !e.CatchAll
	if in, ok, open := st.touched(x.Set, v); ok {
		stored = in
	} else if open && st.unknown("what the packet itself did to set "+x.Set) {
		stored = !stored
	}
	if st.stopped {
		return false, nil
	}
	if stored && e != nil && len(e.Exprs) > 0 {
		exprs = e.Exprs
	}
	if !stored {
		room, err := st.room(s)
		if err != nil || st.stopped {
			return false, err
		}
		if !room {
			return x.Inverted, nil
		}
	}
	if !stored {
		x.note(st, s, v, false)
	}
	cont, err := st.evalExprs(exprs)
	if err != nil || !cont {
		return false, err
	}
	if v.all() && s.Flags&SetAnonymous == 0 && !x.Inverted {
		verb := map[bool]string{true: "stays in", false: "is added to"}[stored]
		st.say("%s %s %s", s.keyText(v.b), verb, s.Name)
	}
	return !x.Inverted, nil
}

// note records what was done to the set. An element of a map is not followed: its key is recorded as unknown.
func (x *Dynset) note(st *state, s *setState, v value, removed bool) {
	if v.all() && (!x.HasData || removed) {
		st.touch(s.Name, v.b, removed)
		return
	}
	st.touch(s.Name, nil, removed)
}

// room tells whether a set can take one more element. Elements whose time is over count until the kernel collects them,
// and are not listed: a set with timeouts that is nearly full may be full.
func (st *state) room(s *setState) (bool, error) {
	if s.Size == 0 {
		return true, nil
	}
	n := s.Count
	if n < 0 {
		if err := st.e.all(st.ctx, s); err != nil {
			return false, err
		}
		n = int64(len(s.elements))
	}
	if n >= int64(s.Size) {
		return s.Flags&SetTimeout != 0 && st.depends(fmt.Sprintf("set %s is not full", s.Name)), nil
	}
	if s.Count < 0 && s.Flags&SetTimeout != 0 && n >= int64(s.Size)-int64(s.Size)/8 {
		return st.depends(fmt.Sprintf("set %s is not full", s.Name)), nil
	}
	return true, nil
}
