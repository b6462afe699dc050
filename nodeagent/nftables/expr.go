package nftables

import (
	"fmt"
)

// Expr is one expression of a rule: one operation of the kernel's nftables machine.
type Expr interface {
	// Name is the kernel's name of the expression's type: "payload", "cmp", "lookup".
	Name() string
	// eval runs it. It returns false when the rule ends here: NFT_BREAK, or a verdict in st.
	eval(st *state) (bool, error)
	// effect reports whether it can change the packet, its connection or its way.
	effect() bool
}

// decoders make expressions from the attributes of NFTA_EXPR_DATA.
var decoders map[string]func(data []byte, depth int) (Expr, error)

func init() {
	decoders = map[string]func(data []byte, depth int) (Expr, error){
		"bitwise": decodeBitwise, "byteorder": decodeByteorder, "cmp": decodeCmp, "connlimit": decodeConnlimit,
		"counter": decodeCounter, "ct": decodeCt, "dup": decodeDup, "dynset": decodeDynset, "exthdr": decodeExthdr,
		"fib": decodeFib, "flow_offload": decodeFlowOffload, "fwd": decodeFwd, "hash": decodeHash,
		"immediate": decodeImmediate, "inner": decodeInner, "last": decodeLast, "limit": decodeLimit, "log": decodeLog,
		"lookup": decodeLookup, "masq": decodeMasq, "match": decodeCompatMatch, "meta": decodeMeta, "nat": decodeNAT,
		"notrack": decodeNotrack, "numgen": decodeNumgen, "objref": decodeObjref, "osf": decodeOsf,
		"payload": decodePayload, "queue": decodeQueue, "quota": decodeQuota, "range": decodeRange, "redir": decodeRedir,
		"reject": decodeReject, "rt": decodeRt, "socket": decodeSocket, "synproxy": decodeSynproxy,
		"target": decodeCompatTarget, "tproxy": decodeTproxy, "tunnel": decodeTunnel, "xfrm": decodeXfrm,
	}
}

// decodeExpr reads one expression (NFTA_EXPR_NAME and NFTA_EXPR_DATA).
func decodeExpr(b []byte, depth int) (Expr, error) {
	t, err := attributes(b).find(attrExprData)
	if err != nil {
		return nil, fmt.Errorf("decoding an expression: %w", err)
	}
	if !t.has(attrExprName) {
		return nil, fmt.Errorf("decoding an expression: %w: no name", ErrMalformed)
	}
	return decodeNamed(t.str(attrExprName), t[attrExprData], depth)
}

func decodeNamed(name string, data []byte, depth int) (Expr, error) {
	f, ok := decoders[name]
	if !ok || depth > maxNesting {
		return &Opaque{Type: name, Raw: append([]byte(nil), data...)}, nil
	}
	x, err := f(data, depth)
	if err != nil {
		return nil, fmt.Errorf("decoding expression %s: %w", name, err)
	}
	return x, nil
}

// Opaque is an expression that this version does not understand.
type Opaque struct {
	Type string
	// Why says what in it is not understood, empty when it is the whole expression.
	Why string
	Raw []byte
}

// Name returns the type's name.
func (o *Opaque) Name() string { return o.Type }

func (o *Opaque) effect() bool { return true }

func (o *Opaque) eval(st *state) (bool, error) {
	what := "nftables expression " + o.Type
	if o.Why != "" {
		what += " (" + o.Why + ")"
	}
	// It may have loaded registers or changed the packet: nothing in the register file is known from here on.
	st.regs.forget(what)
	return st.unknown(what), nil
}
