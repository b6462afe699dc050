//go:build linux

package bpf

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

// Types that every Blob has, by their number.
const (
	Void    = 0
	Int     = 1
	Pointer = 2
	Enum    = 3
)

// Blob is a small BTF description of our own: what the kernel is to find in its types, by the names of structures and of
// their members. Offsets and sizes in it mean nothing.
type Blob struct {
	types, strings []byte
	next           uint32
	structs        map[string]uint32
	size           map[uint32]uint32   // of types, in bytes
	members        map[uint32][]Member // of structures
	names          map[string]uint32
}

// NewBlob returns a blob with the types above.
func NewBlob() *Blob {
	b := &Blob{strings: []byte{0}, next: 1, structs: map[string]uint32{}, names: map[string]uint32{},
		size: map[uint32]uint32{Int: 4, Pointer: 8, Enum: 4}, members: map[uint32][]Member{}}
	b.add("int", kindInt<<24, 4, 1<<24|32) // signed, 32 bits
	b.add("", kindPtr<<24, Void)
	b.add("", kindEnum<<24|1, 4, b.name("NOTHING"), 0)
	return b
}

// name returns a name's offset among the strings.
func (b *Blob) name(s string) uint32 {
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
func (b *Blob) add(name string, info, sizeOrType uint32, more ...uint32) uint32 {
	for _, v := range append([]uint32{b.name(name), info, sizeOrType}, more...) {
		b.types = binary.NativeEndian.AppendUint32(b.types, v)
	}
	b.next++
	return b.next - 1
}

// Member is a member of a structure: its name and its type.
type Member struct {
	Name string
	Type uint32
}

// Named is a member by its name and its type.
func Named(name string, typ uint32) Member { return Member{name, typ} }

// Structure adds a structure. Its members lie in it one behind the other, each in a multiple of 8 bytes.
func (b *Blob) Structure(name string, members ...Member) uint32 {
	more := make([]uint32, 0, 3*len(members))
	size := uint32(0)
	for _, m := range members {
		more = append(more, b.name(m.Name), m.Type, 8*size)
		size += (b.size[m.Type] + 7) &^ 7
	}
	id := b.add(name, kindStruct<<24|uint32(len(members)), size, more...)
	b.structs[name], b.size[id], b.members[id] = id, size, members
	return id
}

// find follows members from a structure on, by their place in each: how the kernel writes that way ("0:1:0"), and where it
// ends in the Blob.
func (b *Blob) find(structure uint32, way ...int) (access string, offset, typ uint32) {
	access, typ = "0", structure
	for _, i := range way {
		for _, m := range b.members[typ][:i] {
			offset += (b.size[m.Type] + 7) &^ 7
		}
		access, typ = access+":"+strconv.Itoa(i), b.members[typ][i].Type
	}
	return access, offset, typ
}

// Array adds an array type of one element.
func (b *Blob) Array(of uint32) uint32 {
	id := b.add("", kindArray<<24, 0, of, Int, 1)
	b.size[id] = b.size[of]
	return id
}

// Function adds the description of one of the program's functions, int name(void *), and returns its type.
func (b *Blob) Function(name string) uint32 {
	proto := b.add("", kindFuncProto<<24|1, Int, b.name("ctx"), Pointer)
	return b.add(name, kindFunc<<24, proto)
}

// bytes returns the Blob with its header (struct btf_header).
func (b *Blob) bytes() []byte {
	const headerLen = 24
	out := binary.NativeEndian.AppendUint16(nil, 0xeb9f)
	out = append(out, 1, 0)
	for _, v := range []int{headerLen, 0, len(b.types), len(b.types), len(b.strings)} {
		out = binary.NativeEndian.AppendUint32(out, uint32(v))
	}
	return append(append(out, b.types...), b.strings...)
}
