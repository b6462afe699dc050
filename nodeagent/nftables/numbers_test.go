package nftables

import (
	"bytes"
	"testing"
)

// TestJhashOfEveryLength looks at the tail of a key; TestConditionsMatchAsInTheKernel of package nft compares with the kernel.
func TestJhashOfEveryLength(t *testing.T) {
	key := []byte("0123456789abcdefghijklmnopqrstuvwxyz")
	seen := map[uint32]int{}
	for n := range key {
		h := jhash(key[:n], 7)
		if m, dup := seen[h]; dup {
			t.Errorf("lengths %d and %d hash alike", m, n)
		}
		seen[h] = n
	}
	// lookup3's initial value alone: nothing to mix.
	if got, want := jhash(nil, 7), uint32(0xdeadbeef+7); got != want {
		t.Errorf("the hash of nothing is %x, want %x", got, want)
	}
}

func TestShiftMovesBitsAcrossWords(t *testing.T) {
	b := append(host32(0x80000001), host32(0xf0000000)...)
	if got, want := shift(b, 4, true, 0), append(host32(0x0000001f), host32(0)...); !bytes.Equal(got, want) {
		t.Errorf("left: %x, want %x", got, want)
	}
	if got, want := shift(b, 4, false, 0), append(host32(0x08000000), host32(0x1f000000)...); !bytes.Equal(got, want) {
		t.Errorf("right: %x, want %x", got, want)
	}
	if got := shift(b, 0, true, 0xff); !bytes.Equal(got, b) {
		t.Errorf("by nothing: %x, want %x", got, b)
	}
	// What comes in at the open end is known to be zero.
	if got, want := shift(host32(0xffffff00), 8, true, 0xff), host32(0xffff00ff); !bytes.Equal(got, want) {
		t.Errorf("mask: %x, want %x", got, want)
	}
}

func TestCombineKnowsWhatOneSideDecides(t *testing.T) {
	half := value{[]byte{0b1010}, []byte{0b1100}} // the lower two bits are not known
	for _, tt := range []struct {
		op          BitwiseOp
		operand     byte
		bits, known byte
	}{
		{BitwiseAnd, 0b1100, 0b1000, 0xff & ^byte(0xf0) | 0xf0},
		{BitwiseOr, 0b0011, 0b1011, 0b1111},
		{BitwiseXor, 0b1111, 0b0100, 0b1100},
	} {
		out := unknown(1)
		combine(&out, 0, half, known([]byte{tt.operand}), tt.op)
		if out.b[0] != tt.bits || out.known[0] != tt.known {
			t.Errorf("operation %d: %04b known %08b, want %04b known %08b", tt.op, out.b[0], out.known[0], tt.bits, tt.known)
		}
	}
}

func TestRegistersOverlap(t *testing.T) {
	for n, want := range map[uint32]register{0: 0, 1: 4, 2: 8, 4: 16, 8: 4, 9: 5, 23: 19} {
		if got, err := parseRegister(n); err != nil || got != want {
			t.Errorf("register %d is word %d, %v; want %d", n, got, err, want)
		}
	}
	for _, n := range []uint32{5, 7, 24, 1 << 31} {
		if _, err := parseRegister(n); err == nil {
			t.Errorf("register %d is taken", n)
		}
	}
	var r registers
	r.store(4, known([]byte{1, 2, 3, 4, 5, 6, 7, 8}), source{})
	r.store(5, known([]byte{9, 9}), source{}) // a short store clears the rest of its word only
	if v := r.load(4, 8); !bytes.Equal(v.b, []byte{1, 2, 3, 4, 9, 9, 0, 0}) || !v.all() {
		t.Errorf("got %v", v)
	}
}

func TestPrefixLength(t *testing.T) {
	for _, tt := range []struct {
		from, to []byte
		n        int
		ok       bool
	}{
		{[]byte{10, 0}, []byte{10, 255}, 8, true},
		{[]byte{10, 128}, []byte{10, 191}, 10, true},
		{[]byte{0, 0}, []byte{255, 255}, 0, true},
		{[]byte{10, 1}, []byte{10, 2}, 0, false},
		{[]byte{10, 0}, []byte{11, 0}, 0, false},
	} {
		if n, ok := prefixLength(tt.from, tt.to); n != tt.n || ok != tt.ok {
			t.Errorf("%v-%v: %d, %v; want %d, %v", tt.from, tt.to, n, ok, tt.n, tt.ok)
		}
	}
}
