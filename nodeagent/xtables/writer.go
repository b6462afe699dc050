package xtables

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// writer puts a rule's text together, words separated by one space.
type writer struct {
	strings.Builder
	// setName tells an ipset's name by the kernel's index; nil when there is nobody to ask.
	setName func(index uint16) string
	family  skb.Family
	rev     uint8
}

// word adds words.
func (w *writer) word(words ...string) {
	for _, s := range words {
		if w.Len() > 0 {
			w.WriteByte(' ')
		}
		w.WriteString(s)
	}
}

// inv adds an option that may be inverted: "! --dport 80".
func (w *writer) inv(inverted bool, words ...string) {
	if inverted {
		w.word("!")
	}
	w.word(words...)
}

// flag adds words when on is true.
func (w *writer) flag(on bool, words ...string) {
	if on {
		w.word(words...)
	}
}

// wordf adds one formatted word or several.
func (w *writer) wordf(format string, args ...any) { w.word(fmt.Sprintf(format, args...)) }

// quoted adds a text as xtables_save_string (libxtables) prints it: bare when it has only letters, digits, - and _,
// otherwise in quotes with ", \ and ' escaped.
func (w *writer) quoted(s string) { w.word(quote(s)) }

func quote(s string) string {
	bare := s != ""
	for i := 0; i < len(s) && bare; i++ {
		c := s[i]
		bare = c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	if bare {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == '"' || c == '\\' || c == '\'' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// hex prints a number as %#x in C does: zero without prefix.
func hex(v uint64) string {
	if v == 0 {
		return "0x0"
	}
	return "0x" + strconv.FormatUint(v, 16)
}

// masked prints value and mask as xtables_print_val_mask's users do: "0x1/0xff", or without an all-ones mask "0x1".
func masked(value, mask uint32) string {
	if mask == ^uint32(0) {
		return hex(uint64(value))
	}
	return hex(uint64(value)) + "/" + hex(uint64(mask))
}

func addrText(b []byte) string {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return ""
	}
	if a.Is4In6() {
		return "::ffff:" + a.Unmap().String()
	}
	return a.String()
}

// maskText prints a mask as a prefix length when it is one, else as an address.
func maskText(m []byte) string {
	if n, ok := prefixLength(m); ok {
		return strconv.Itoa(n)
	}
	return addrText(m)
}

func prefixLength(m []byte) (n int, ok bool) {
	done := false
	for _, b := range m {
		ones := bits.LeadingZeros8(^b)
		if b<<ones != 0 || done && ones > 0 {
			return 0, false
		}
		n += ones
		done = done || ones < 8
	}
	return n, true
}

func u16(b []byte, off int) uint16 { return binary.NativeEndian.Uint16(b[off:]) }
func u32(b []byte, off int) uint32 { return binary.NativeEndian.Uint32(b[off:]) }
func u64(b []byte, off int) uint64 { return binary.NativeEndian.Uint64(b[off:]) }

// be16 reads a number in network order.
func be16(b []byte, off int) uint16 { return binary.BigEndian.Uint16(b[off:]) }

// addrBytes returns the bytes of a union nf_inet_addr that its family uses.
func (w *writer) addrBytes(b []byte) []byte { return addrBytes(w.family, b) }

func addrBytes(f skb.Family, b []byte) []byte {
	if f == skb.IPv6 {
		return b[:16]
	}
	return b[:4]
}
