package nftables

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
)

// dataType is one of nft's data types (nftables, include/datatype.h, src/datatype.c): how bytes are printed.
type dataType struct {
	name string
	// host tells that numbers are in host order.
	host bool
	// size is the length in bytes, 0 when it varies.
	size int
	// symbols are names for values; base tells how other values are printed.
	symbols names
	// flags are names of bits, in the order they are printed in.
	flags []flag
	hex   int // width of a hexadecimal number, 0 for decimal, -1 for no padding
	show  func(b []byte) string
}

// names are the names of numbers; "" stands for none. They lie in the program as they are, where a map would be made at each
// start of it.
type names []string

// of names a number; ok is false for one without a name.
func (s names) of(n uint64) (name string, ok bool) {
	if n >= uint64(len(s)) {
		return "", false
	}
	return s[n], s[n] != ""
}

type flag struct {
	bit  uint64
	name string
}

// Numbers of data types (enum datatypes); a concatenation has six bits for each part.
const (
	idVerdict = 1 + iota
	idNfproto
	idBitmask
	idInteger
	idString
	idLink
	idIPv4
	idIPv6
	idEther
	idEtherType
	idARPOp
	idProto
	idPort
	idICMP
	idTCPFlag
	idDCCP
	idMH
	idTime
	idMark
	idIfindex
	idARPHRD
	idRealm
	idClassID
	idUID
	idGID
	idCtState
	idCtDir
	idCtStatus
	idICMPv6
	idCtLabel
	idPktType
	idICMPCode
	idICMPv6Code
	idICMPXCode
	idDevgroup
	idDSCP
	idECN
	idFibAddr
	idBoolean
	idCtEvent
	idIfname
	idIGMP
	idDate
	idHour
	idDay
	idCgroup
)

var dataTypes = [64]*dataType{
	idNfproto: typeNfproto, idBitmask: typeBitmask, idInteger: typeInteger, idString: typeString, idLink: typeEther,
	idIPv4: typeIPv4, idIPv6: typeIPv6, idEther: typeEther, idEtherType: typeEtherType, idARPOp: typeARPOp, idProto: typeProto,
	idPort: typePort, idMH: typeMH, idICMP: typeICMP, idTCPFlag: typeTCPFlag, idDCCP: typeDCCP, idTime: typeMillis, idMark: typeMark,
	idIfindex: typeIfindex, idARPHRD: typeARPHRD, idRealm: typeRealm, idClassID: typeClassID, idUID: typeUID, idGID: typeGID,
	idCtState: typeCtState, idCtDir: typeCtDir, idCtStatus: typeCtStatus, idICMPv6: typeICMPv6, idCtLabel: typeCtLabel,
	idPktType: typePktType, idICMPCode: typeICMPCode, idICMPv6Code: typeICMPv6Code, idICMPXCode: typeICMPXCode,
	idDevgroup: typeDevgroup, idDSCP: typeDSCP, idECN: typeECN, idFibAddr: typeFibAddr, idBoolean: typeBoolean,
	idCtEvent: typeCtEvent, idIfname: typeIfname, idDate: typeTime, idHour: typeHour, idDay: typeDay, idIGMP: typeIGMP,
	idCgroup: typeHostInteger,
}

// parts returns the data types of a set's key or data: one, or those of a concatenation. Types that are not known are
// integers.
func parts(id uint32) []*dataType {
	var out []*dataType
	for ; id != 0; id >>= 6 {
		t := dataTypes[id&0x3f]
		if t == nil {
			t = typeInteger
		}
		out = append([]*dataType{t}, out...)
	}
	return out
}

// number is b as a number, in the type's byte order.
func (t *dataType) number(b []byte) *big.Int {
	if t.host && littleEndian {
		r := make([]byte, len(b))
		for i := range b {
			r[len(b)-1-i] = b[i]
		}
		b = r
	}
	return new(big.Int).SetBytes(b)
}

// network returns the type for values that have been turned to network order.
func (t *dataType) network() *dataType {
	if !t.host {
		return t
	}
	c := *t
	c.host = false
	if show := t.show; show != nil && littleEndian {
		c.show = func(b []byte) string { return show(reversed(b)) }
	}
	return &c
}

// shifted returns the type for a field of n bits behind first bits of a masked value of size bytes.
func (t *dataType) shifted(first, n uint32, size int) *dataType {
	return &dataType{name: t.name, size: size, show: func(b []byte) string {
		v := new(big.Int).Rsh(new(big.Int).SetBytes(b), uint(size*8)-uint(first+n))
		return t.text(v.FillBytes(make([]byte, max((n+7)/8, uint32(v.BitLen()+7)/8))))
	}}
}

// text prints a value.
func (t *dataType) text(b []byte) string {
	if t.show != nil {
		return t.show(b)
	}
	n := t.number(b)
	if n.IsUint64() {
		if s, ok := t.symbols.of(n.Uint64()); ok {
			return s
		}
		if t.flags != nil {
			return t.flagText(n.Uint64())
		}
	}
	switch {
	case t.hex < 0:
		return fmt.Sprintf("0x%x", n)
	case t.hex > 0:
		return fmt.Sprintf("0x%0*x", t.hex, n)
	}
	return n.String()
}

// flagText prints the bits of n by name.
func (t *dataType) flagText(n uint64) string {
	var names []string
	for _, f := range t.flags {
		if n&f.bit != 0 {
			names = append(names, f.name)
			n &^= f.bit
		}
	}
	if n != 0 || len(names) == 0 {
		names = append(names, fmt.Sprintf("0x%x", n))
	}
	return strings.Join(names, ",")
}

func ipText(b []byte) string {
	if a, ok := netip.AddrFromSlice(b); ok {
		return a.String()
	}
	return fmt.Sprintf("0x%x", b)
}

func quoted(b []byte) string { return `"` + cString(b) + `"` }

// ifnameText prints an interface name; one that is shorter than the field without a zero byte is a prefix.
func ifnameText(b []byte) string {
	if len(b) > 0 && len(b) < 16 && b[len(b)-1] != 0 {
		return `"` + cString(b) + `*"`
	}
	return quoted(b)
}

func etherText(b []byte) string { return net.HardwareAddr(b).String() }

// classText prints a tc class: major:minor, root or none.
func classText(b []byte) string {
	if len(b) < 4 {
		return fmt.Sprintf("0x%x", b)
	}
	n := binary.NativeEndian.Uint32(b)
	switch n {
	case 0xffffffff:
		return "root"
	case 0:
		return "none"
	}
	return fmt.Sprintf("%x:%x", n>>16, n&0xffff)
}

// millisText prints a time in milliseconds as nft does: 1d2h3m4s5ms.
func millisText(ms uint64) string {
	var s strings.Builder
	for _, u := range []struct {
		n    uint64
		name string
	}{{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}} {
		if n := ms / u.n; n > 0 {
			fmt.Fprintf(&s, "%d%s", n, u.name)
			ms %= u.n
		}
	}
	if s.Len() == 0 {
		return "0s"
	}
	return s.String()
}

// hourText prints the seconds of a day as "15:04" or "15:04:05".
func hourText(b []byte) string {
	if len(b) < 4 {
		return fmt.Sprintf("0x%x", b)
	}
	n := binary.NativeEndian.Uint32(b)
	h, m, s := n/3600, n%3600/60, n%60
	if s == 0 {
		return fmt.Sprintf(`"%02d:%02d"`, h, m)
	}
	return fmt.Sprintf(`"%02d:%02d:%02d"`, h, m, s)
}
