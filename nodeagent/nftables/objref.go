package nftables

import (
	"context"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Objref runs a named stateful object (net/netfilter/nft_objref.c).
type Objref struct {
	// Type and Object name it; or it is looked up by Source in the object map Set.
	Type   uint32
	Object string
	Set    string
	Source register
}

type objectKey struct {
	setKey
	typ uint32
}

func decodeObjref(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(5)
	if err != nil {
		return nil, err
	}
	x := &Objref{Type: t.u32(1), Object: t.str(2), Set: t.str(4)}
	if x.Object == "" && x.Set == "" {
		return nil, fmt.Errorf("%w: neither object nor map", ErrMalformed)
	}
	x.Source, err = parseRegister(t.u32(3))
	return x, err
}

// Name returns objref.
func (x *Objref) Name() string { return "objref" }

// effect is true for objects that act on the packet or its connection; a map can hold any.
func (x *Objref) effect() bool {
	switch x.Type {
	case ObjectCounter, ObjectQuota, ObjectLimit, ObjectConnlimit, ObjectSecmark:
		return x.Set != ""
	}
	return true
}

func (x *Objref) eval(st *state) (bool, error) {
	typ, name := x.Type, x.Object
	if x.Set != "" {
		s, err := st.e.set(st.ctx, st.r.Family, st.r.Table, x.Set)
		if err != nil {
			return false, err
		}
		e, err := st.find(s, x.Source, st.regs.load(x.Source, s.KeyLen))
		if err != nil || st.stopped || e == nil {
			// A key that is not in the map breaks the rule.
			return false, err
		}
		typ, name = s.ObjectType, e.Object
	}
	if typ == ObjectCounter || typ == ObjectSecmark {
		return true, nil
	}
	o, err := st.e.object(st.ctx, st.r.Family, st.r.Table, name, typ)
	if err != nil {
		return false, err
	}
	switch {
	case o.Expr != nil:
		return o.Expr.eval(st)
	case typ == ObjectCtHelper:
		st.setHelper(o)
		return true, nil
	case typ == ObjectCtTimeout || typ == ObjectCtExpect:
		// They shape later packets of the flow, not this one.
		st.act("%s set %s", objectTypeName(typ), name)
		return true, nil
	}
	return st.unknown(fmt.Sprintf("%s object %s", objectTypeName(typ), name)), nil
}

// setHelper assigns a connection tracking helper to a new flow (nft_ct_helper_obj_eval).
func (st *state) setHelper(o *Object) {
	c := st.p.Ct
	if c == nil || c.Status&(skb.StatusConfirmed|skb.StatusTemplate) != 0 || c.Helper != "" || o.HelperL4 != st.p.Proto() {
		return
	}
	if o.HelperL3 != uint16(node.NFTInet) && o.HelperL3 != uint16(st.p.Family) {
		return
	}
	c.Helper = o.Helper
	st.act("ct helper set %s", o.Helper)
}

// object returns a stateful object of a table.
func (e *Evaluator) object(ctx context.Context, f node.NFTFamily, table, name string, typ uint32) (*Object, error) {
	k := objectKey{setKey{f, table, name}, typ}
	if o, ok := e.objects[k]; ok {
		return o, nil
	}
	b, err := e.Env.NFTObject(ctx, f, table, name, typ)
	if err != nil {
		return nil, fmt.Errorf("reading %s %s of table %s %s: %w", objectTypeName(typ), name, f, table, err)
	}
	o, err := DecodeObject(b)
	if err != nil {
		return nil, err
	}
	if e.objects == nil {
		e.objects = make(map[objectKey]*Object)
	}
	e.objects[k] = o
	return o, nil
}
