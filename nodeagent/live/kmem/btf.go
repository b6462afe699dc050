//go:build linux

package kmem

import (
	"encoding/binary"
	"strconv"
)

// Kinds of BTF types (include/uapi/linux/btf.h).
const (
	kindInt       = 1
	kindPtr       = 2
	kindArray     = 3
	kindStruct    = 4
	kindEnum      = 6
	kindFunc      = 12
	kindFuncProto = 13
)

// Types that every blob has, by their number.
const (
	typeVoid    = 0
	typeInt     = 1
	typePointer = 2
	typeEnum    = 3
	firstOwn    = 4
)

// blob is a small BTF description of our own: what the kernel is to find in its types, by the names of structures and of
// their members. Offsets and sizes in it mean nothing.
type blob struct {
	types, strings []byte
	next           uint32
	structs        map[string]uint32
	size           map[uint32]uint32   // of types, in bytes
	members        map[uint32][]member // of structures
	names          map[string]uint32
}

func newBlob() *blob {
	b := &blob{strings: []byte{0}, next: 1, structs: map[string]uint32{}, names: map[string]uint32{},
		size: map[uint32]uint32{typeInt: 4, typePointer: 8, typeEnum: 4}, members: map[uint32][]member{}}
	b.add("int", kindInt<<24, 4, 1<<24|32) // signed, 32 bits
	b.add("", kindPtr<<24, typeVoid)
	b.add("", kindEnum<<24|1, 4, b.name("NOTHING"), 0)
	return b
}

// name returns a name's offset among the strings.
func (b *blob) name(s string) uint32 {
	if s == "" {
		return 0
	}
	if off, ok := b.names[s]; ok {
		return off
	}
	off := uint32(len(b.strings))
	b.strings = append(append(b.strings, s...), 0)
	b.names[s] = off
	return off
}

// add appends a type (struct btf_type and what follows it) and returns its number.
func (b *blob) add(name string, info, sizeOrType uint32, more ...uint32) uint32 {
	for _, v := range append([]uint32{b.name(name), info, sizeOrType}, more...) {
		b.types = binary.NativeEndian.AppendUint32(b.types, v)
	}
	b.next++
	return b.next - 1
}

// member is a member of a structure as the blob has it.
type member struct {
	name string
	typ  uint32
}

// structure adds a structure. Its members lie in it one behind the other, each in a multiple of 8 bytes.
func (b *blob) structure(name string, members ...member) uint32 {
	more := make([]uint32, 0, 3*len(members))
	size := uint32(0)
	for _, m := range members {
		more = append(more, b.name(m.name), m.typ, 8*size)
		size += (b.size[m.typ] + 7) &^ 7
	}
	id := b.add(name, kindStruct<<24|uint32(len(members)), size, more...)
	b.structs[name], b.size[id], b.members[id] = id, size, members
	return id
}

// find follows members from a structure on, by their place in each: how the kernel writes that way ("0:1:0"), and where it
// ends in the blob.
func (b *blob) find(structure uint32, way ...int) (access string, offset, typ uint32) {
	access, typ = "0", structure
	for _, i := range way {
		for _, m := range b.members[typ][:i] {
			offset += (b.size[m.typ] + 7) &^ 7
		}
		access, typ = access+":"+strconv.Itoa(i), b.members[typ][i].typ
	}
	return access, offset, typ
}

// array adds an array type of one element.
func (b *blob) array(of uint32) uint32 {
	id := b.add("", kindArray<<24, 0, of, typeInt, 1)
	b.size[id] = b.size[of]
	return id
}

// function adds the description of the program itself: int run(void *).
func (b *blob) function() uint32 {
	proto := b.add("", kindFuncProto<<24|1, typeInt, b.name("ctx"), typePointer)
	return b.add("run", kindFunc<<24, proto)
}

// bytes returns the blob with its header (struct btf_header).
func (b *blob) bytes() []byte {
	const headerLen = 24
	out := binary.NativeEndian.AppendUint16(nil, 0xeb9f)
	out = append(out, 1, 0)
	for _, v := range []int{headerLen, 0, len(b.types), len(b.types), len(b.strings)} {
		out = binary.NativeEndian.AppendUint32(out, uint32(v))
	}
	return append(append(out, b.types...), b.strings...)
}
