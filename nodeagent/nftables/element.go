package nftables

import (
	"bytes"
	"fmt"
)

// Attributes of a set element and of data (enum nft_set_elem_attributes, nft_data_attributes, nft_verdict_attributes).
const (
	attrElementKey         = 1
	attrElementData        = 2
	attrElementFlags       = 3
	attrElementTimeout     = 4
	attrElementExpiration  = 5
	attrElementUserdata    = 6
	attrElementExpr        = 7
	attrElementObject      = 9
	attrElementKeyEnd      = 10
	attrElementExpressions = 11

	attrDataValue   = 1
	attrDataVerdict = 2

	attrVerdictCode  = 1
	attrVerdictChain = 2

	elementIntervalEnd = 1
	elementCatchAll    = 2
)

// Element is one element of a set or map.
type Element struct {
	// Key is the key, or the first of a range; nil for the catch-all element.
	Key []byte
	// KeyEnd is the last key of a ranged concatenation, nil for a single key.
	KeyEnd []byte
	// End marks the first key behind an interval (NFT_SET_ELEM_INTERVAL_END).
	End bool
	// CatchAll marks the element that matches what no other does.
	CatchAll bool
	// Data is a map's value; Verdict that of a verdict map.
	Data    []byte
	Verdict *Verdict
	// Object names the stateful object of an object map.
	Object string
	// HasTimeout tells that it expires: TimeoutMillis after its last update, ExpiresMillis from when it was read.
	HasTimeout                   bool
	TimeoutMillis, ExpiresMillis uint64
	// Exprs are its stateful expressions (counter, limit, quota, connlimit).
	Exprs   []Expr
	Comment string
	// open tells that an interval has no end in the tree: it reaches to the largest key.
	open bool
}

// Expired reports whether its time is over: the kernel keeps such elements until it collects them, but does not find them.
func (e *Element) Expired() bool { return e.HasTimeout && e.ExpiresMillis == 0 }

// DecodeElement reads one element's attributes.
func DecodeElement(attrs []byte) (*Element, error) {
	t, err := attributes(attrs).find(attrElementExpressions)
	if err != nil {
		return nil, fmt.Errorf("decoding a set element: %w", err)
	}
	e := &Element{Comment: userdataComment(t[attrElementUserdata]), Object: t.str(attrElementObject)}
	flags := t.u32(attrElementFlags)
	e.End, e.CatchAll = flags&elementIntervalEnd != 0, flags&elementCatchAll != 0
	if t.has(attrElementKey) {
		if e.Key, err = decodeValue(t[attrElementKey]); err != nil {
			return nil, fmt.Errorf("decoding an element's key: %w", err)
		}
	} else if !e.CatchAll {
		return nil, fmt.Errorf("decoding a set element: %w: no key", ErrMalformed)
	}
	if t.has(attrElementKeyEnd) {
		if e.KeyEnd, err = decodeValue(t[attrElementKeyEnd]); err != nil {
			return nil, fmt.Errorf("decoding an element's last key: %w", err)
		}
		if len(e.KeyEnd) != len(e.Key) {
			return nil, fmt.Errorf("decoding a set element: %w: keys of %d and %d bytes", ErrMalformed, len(e.Key), len(e.KeyEnd))
		}
	}
	if t.has(attrElementData) {
		if e.Data, e.Verdict, err = decodeData(t[attrElementData]); err != nil {
			return nil, fmt.Errorf("decoding an element's data: %w", err)
		}
	}
	if t.has(attrElementExpiration) {
		e.HasTimeout, e.TimeoutMillis, e.ExpiresMillis = true, t.u64(attrElementTimeout), t.u64(attrElementExpiration)
	}
	if e.Exprs, err = decodeStateful(&t, attrElementExpr, attrElementExpressions, 1); err != nil {
		return nil, fmt.Errorf("decoding an element's expressions: %w", err)
	}
	userdata(t[attrElementUserdata], func(typ uint8, value []byte) {
		if typ == userdataElementFlags && len(value) >= 1 {
			e.open = value[0]&userdataElementInterval != 0
		}
	})
	return e, nil
}

// decodeData reads struct nft_data as attributes: bytes or a verdict.
func decodeData(b []byte) ([]byte, *Verdict, error) {
	t, err := attributes(b).find(attrDataVerdict)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case t.has(attrDataVerdict):
		v, err := t.nested(attrDataVerdict, attrVerdictChain)
		if err != nil {
			return nil, nil, err
		}
		if !v.has(attrVerdictCode) {
			return nil, nil, fmt.Errorf("%w: a verdict without code", ErrMalformed)
		}
		return nil, &Verdict{Code: int32(v.u32(attrVerdictCode)), Chain: v.str(attrVerdictChain)}, nil
	case t.has(attrDataValue):
		if len(t[attrDataValue]) > maxKeyLength {
			return nil, nil, fmt.Errorf("%w: a value of %d bytes", ErrMalformed, len(t[attrDataValue]))
		}
		return bytes.Clone(t[attrDataValue]), nil, nil
	}
	return nil, nil, fmt.Errorf("%w: data without value", ErrMalformed)
}

// decodeValue is decodeData where only bytes make sense.
func decodeValue(b []byte) ([]byte, error) {
	v, verdict, err := decodeData(b)
	if err == nil && verdict != nil {
		err = fmt.Errorf("%w: a verdict where a value belongs", ErrMalformed)
	}
	return v, err
}
