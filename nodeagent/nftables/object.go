package nftables

import "fmt"

// Attributes of a stateful object (enum nft_object_attributes).
const (
	attrObjectTable    = 1
	attrObjectName     = 2
	attrObjectType     = 3
	attrObjectData     = 4
	attrObjectUserdata = 8
)

// Types of stateful objects (NFT_OBJECT_*).
const (
	ObjectCounter   = 1
	ObjectQuota     = 2
	ObjectCtHelper  = 3
	ObjectLimit     = 4
	ObjectConnlimit = 5
	ObjectTunnel    = 6
	ObjectCtTimeout = 7
	ObjectSecmark   = 8
	ObjectCtExpect  = 9
	ObjectSynproxy  = 10
)

// objectExprs names the expression that does the same as an object, for those that have one.
var objectExprs = names{
	ObjectCounter:   "counter",
	ObjectQuota:     "quota",
	ObjectLimit:     "limit",
	ObjectConnlimit: "connlimit",
	ObjectSynproxy:  "synproxy",
}

// Object is a named stateful object.
type Object struct {
	Name string
	Type uint32
	// Expr is the expression with the object's parameters and state, nil for types that have none.
	Expr Expr
	// Helper is the helper's name of a ct helper, with its protocols (L3 in NFPROTO numbers, 1 for both families).
	Helper   string
	HelperL3 uint16
	HelperL4 uint8
	Comment  string
}

// DecodeObject reads an NFT_MSG_NEWOBJ message's attributes.
func DecodeObject(attrs []byte) (*Object, error) {
	t, err := attributes(attrs).find(attrObjectUserdata)
	if err != nil {
		return nil, fmt.Errorf("decoding an object: %w", err)
	}
	o := &Object{Name: t.str(attrObjectName), Type: t.u32(attrObjectType), Comment: userdataComment(t[attrObjectUserdata])}
	switch name, ok := objectExprs.of(uint64(o.Type)); {
	case ok:
		if o.Expr, err = decodeNamed(name, t[attrObjectData], 1); err != nil {
			return nil, fmt.Errorf("decoding object %s: %w", o.Name, err)
		}
	case o.Type == ObjectCtHelper:
		h, err := t.nested(attrObjectData, 3)
		if err != nil {
			return nil, fmt.Errorf("decoding object %s: %w", o.Name, err)
		}
		o.Helper, o.HelperL3, o.HelperL4 = h.str(1), h.u16(2), h.u8(3)
	}
	return o, nil
}

// objectTypeName returns the type's name as nft prints it.
func objectTypeName(typ uint32) string {
	switch typ {
	case ObjectCounter:
		return "counter"
	case ObjectQuota:
		return "quota"
	case ObjectCtHelper:
		return "ct helper"
	case ObjectLimit:
		return "limit"
	case ObjectConnlimit:
		return "ct count"
	case ObjectTunnel:
		return "tunnel"
	case ObjectCtTimeout:
		return "ct timeout"
	case ObjectSecmark:
		return "secmark"
	case ObjectCtExpect:
		return "ct expectation"
	case ObjectSynproxy:
		return "synproxy"
	}
	return fmt.Sprintf("object type %d", typ)
}
