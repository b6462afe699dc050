//go:build linux

package cthash

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// kernelTypes is the header and the two parts of a kernel's or a module's own BTF (Documentation/bpf/btf.rst).
type kernelTypes struct{ types, strings []byte }

func parseTypes(b []byte) (kernelTypes, error) {
	const headerLen = 24
	if len(b) < headerLen || binary.NativeEndian.Uint16(b) != 0xeb9f {
		return kernelTypes{}, errors.New("no BTF")
	}
	u := func(at int) uint64 { return uint64(binary.NativeEndian.Uint32(b[at:])) }
	part := func(off, size uint64) []byte {
		off += u(4)
		if off+size > uint64(len(b)) {
			return nil
		}
		return b[off : off+size]
	}
	t := kernelTypes{part(u(8), u(12)), part(u(16), u(20))}
	if len(t.types) == 0 || len(t.strings) == 0 {
		return kernelTypes{}, errors.New("BTF without types")
	}
	return t, nil
}

// named returns where a name begins among the strings, 0 when it is not there.
func (t kernelTypes) named(name string) int {
	return bytes.Index(t.strings, append(append([]byte{0}, name...), 0)) + 1
}

// BTF_KIND_STRUCT and BTF_KIND_FUNC.
const (
	kindStruct   = 4
	kindFunction = 12
)

// follows is how many bytes come behind the 12 of a type, by its kind: so many, and so many for each of its members.
var follows = [...]struct{ fixed, each int }{
	1: {4, 0}, 2: {}, 3: {12, 0}, 4: {0, 12}, 5: {0, 12}, 6: {0, 8}, 7: {}, 8: {}, 9: {}, 10: {}, 11: {}, 12: {}, 13: {0, 8},
	14: {4, 0}, 15: {0, 12}, 16: {}, 17: {4, 0}, 18: {}, 19: {0, 12},
}

// each calls f for every type, by its place, with the kind and the offset of the name.
func (t kernelTypes) each(f func(place int, kind byte, name uint32)) error {
	place := 0
	for b := t.types; len(b) > 0; place++ {
		if len(b) < 12 {
			return errors.New("a cut off type")
		}
		info := binary.NativeEndian.Uint32(b[4:])
		kind := byte(info >> 24 & 0x1f)
		if kind == 0 || int(kind) >= len(follows) {
			return fmt.Errorf("a type of kind %d", kind)
		}
		f(place, kind, binary.NativeEndian.Uint32(b))
		size := 12 + follows[kind].fixed + follows[kind].each*int(info&0xffff)
		if size > len(b) {
			return errors.New("a cut off type")
		}
		b = b[size:]
	}
	return nil
}

// wantedType is a type to find: by its kind and its name.
type wantedType struct {
	kind byte
	name string
}

// findTypes finds types, and counts all: their numbers, 0 for one that is not there. base are the types and the strings that the
// numbers of a module's come behind; none for the kernel itself.
func findTypes(own kernelTypes, base kernelTypes, baseTypes int, wanted []wantedType) (ids []int, types int, err error) {
	ids = make([]int, len(wanted))
	// Where the name of each begins: a module takes the kernel's where there is one.
	at := make([]int, len(wanted))
	for i, w := range wanted {
		if at[i] = base.named(w.name); at[i] == 0 {
			if at[i] = own.named(w.name); at[i] > 0 {
				at[i] += len(base.strings)
			}
		}
	}
	err = own.each(func(place int, kind byte, name uint32) {
		types++
		if kind != kindFunction && kind != kindStruct || name == 0 {
			return
		}
		for i, w := range wanted {
			if at[i] == int(name) && kind == w.kind {
				ids[i] = place + 1 + baseTypes
			}
		}
	})
	return ids, types, err
}
