package nftables

import (
	"encoding/binary"
	"fmt"
)

// Byteorder turns numbers of Size bytes between host and network order (net/netfilter/nft_byteorder.c).
type Byteorder struct {
	Source, Dest register
	// ToNetwork is true for hton, false for ntoh. On a given machine both do the same.
	ToNetwork bool
	// Len is the length of the whole value, Size that of one number: 2, 4 or 8.
	Len, Size int
}

func decodeByteorder(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(5)
	if err != nil {
		return nil, err
	}
	x := &Byteorder{ToNetwork: t.u32(3) == 1, Len: int(t.u32(4)), Size: int(t.u32(5))}
	if x.Source, err = parseRegister(t.u32(1)); err != nil {
		return nil, err
	}
	if x.Dest, err = parseRegister(t.u32(2)); err != nil {
		return nil, err
	}
	if x.Len < 1 || x.Len > maxKeyLength || x.Size != 2 && x.Size != 4 && x.Size != 8 {
		return nil, fmt.Errorf("%w: numbers of %d bytes in %d", ErrMalformed, x.Size, x.Len)
	}
	return x, nil
}

// Name returns byteorder.
func (x *Byteorder) Name() string { return "byteorder" }

func (x *Byteorder) effect() bool { return false }

// littleEndian tells the order of this machine, which is the node's: recordings are read on machines of either order, so
// an evaluation on a machine of the other order than the node's is wrong.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

func (x *Byteorder) eval(st *state) (bool, error) {
	v := st.regs.load(x.Source, x.Len)
	from := st.regs.from[x.Source]
	from.inPacket = false
	if from.typ != nil {
		from.typ = from.typ.network()
	}
	if littleEndian {
		// Numbers of 2 bytes lie behind each other, not one to a 32-bit word (kernel 6.8 and later; before, and for one
		// number, it is the same).
		for i := 0; i+x.Size <= len(v.b); i += x.Size {
			reverse(v.b[i : i+x.Size])
			reverse(v.known[i : i+x.Size])
		}
	}
	st.regs.store(x.Dest, v, from)
	return true, nil
}

func reverse(b []byte) {
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
}
