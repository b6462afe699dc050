//go:build linux

package chainmem

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Numbers of include/uapi/linux/netfilter/nf_tables.h that golang.org/x/sys/unix does not have.
const (
	nftDataValue   = 1 // NFTA_DATA_VALUE
	nftListElement = 1 // NFTA_LIST_ELEM
	cmpEqual       = 0 // NFT_CMP_EQ
	cmpNotEqual    = 1 // NFT_CMP_NEQ
)

const (
	attrHead = 4  // of an attribute, before its payload
	maxKey   = 16 // of a comparison, in bytes
)

// message is a netlink message that is written, byte for byte as the kernel would. It is used again for every rule.
type message struct {
	b          []byte
	list, data int // where the expression begins, and its data
}

// begin begins an expression, an element of a list, and end ends it.
func (m *message) begin(name string) {
	m.list = m.open(nftListElement)
	at := m.open(unix.NFTA_EXPR_NAME)
	m.b = append(append(m.b, name...), 0)
	m.close(at)
	m.data = m.open(unix.NFTA_EXPR_DATA)
}

func (m *message) end() {
	m.close(m.data)
	m.close(m.list)
}

// open begins an attribute, and close writes its length.
func (m *message) open(typ uint16) (at int) {
	at = len(m.b)
	m.b = binary.NativeEndian.AppendUint16(append(m.b, 0, 0), typ)
	return at
}

func (m *message) close(at int) {
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

func (m *message) u32(typ uint16, v uint32) {
	at := m.open(typ)
	m.b = binary.BigEndian.AppendUint32(m.b, v)
	m.close(at)
}

// compare writes a comparison with a value of so many bytes.
func (m *message) compare(from byte, op uint32, value []byte, size int) bool {
	if size > min(maxKey, len(value)) {
		return false
	}
	m.begin("cmp")
	m.u32(unix.NFTA_CMP_SREG, register(from))
	m.u32(unix.NFTA_CMP_OP, op)
	data := m.open(unix.NFTA_CMP_DATA)
	at := m.open(nftDataValue)
	m.b = append(m.b, value[:size]...)
	m.close(at)
	m.close(data)
	m.end()
	return true
}
