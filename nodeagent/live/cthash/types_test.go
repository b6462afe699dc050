//go:build linux

package cthash

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

func TestTheKernelsOwnFunctionsAreFound(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	f, err := findFunctions()
	if err != nil {
		t.Fatal(err)
	}
	conntrack := spec
	if f.module >= 0 {
		defer unix.Close(f.module)
		if conntrack, err = btf.LoadKernelModuleSpec("nf_conntrack"); err != nil {
			t.Fatal(err)
		}
	}
	for name, got := range map[string]int{lookupFunction: f.find, releaseFunction: f.release, "bpf_rdonly_cast": f.cast} {
		of := conntrack
		if name == "bpf_rdonly_cast" {
			if of = spec; before(t, 6, 2) {
				continue
			}
		}
		var fn *btf.Func
		if err := of.TypeByName(name, &fn); err != nil {
			t.Fatal(err)
		}
		if want, err := of.TypeID(fn); err != nil || btf.TypeID(got) != want {
			t.Errorf("%s has number %d, not %d, %v", name, want, got, err)
		}
	}
	var s *btf.Struct
	if err := spec.TypeByName("new_utsname", &s); err != nil {
		t.Fatal(err)
	}
	if want, err := spec.TypeID(s); err != nil || btf.TypeID(f.plain) != want {
		t.Errorf("new_utsname has number %d, not %d, %v", want, f.plain, err)
	}
	// What is read through it lies in its first member.
	a, ok := s.Members[0].Type.(*btf.Array)
	if !ok || a.Nelems < maxSize {
		t.Errorf("new_utsname begins with %v", s.Members[0])
	}
}

func TestLayoutIsThatOfTheKernelsOwnTypes(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	l, err := askLayout()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		got int
		of  string
		way []string
	}{
		{l.tupleHash, "nf_conn", []string{"tuplehash"}}, {l.net, "nf_conn", []string{"ct_net"}},
		{l.zoneID, "nf_conn", []string{"zone", "id"}}, {l.zoneDir, "nf_conn", []string{"zone", "dir"}},
		{l.node, "nf_conntrack_tuple_hash", []string{"hnnode"}}, {l.tuple, "nf_conntrack_tuple_hash", []string{"tuple"}},
		{l.next, "hlist_nulls_node", []string{"next"}}, {l.back, "hlist_nulls_node", []string{"pprev"}},
		{l.src, "nf_conntrack_tuple", []string{"src", "u3"}}, {l.srcPort, "nf_conntrack_tuple", []string{"src", "u"}},
		{l.family, "nf_conntrack_tuple", []string{"src", "l3num"}}, {l.dst, "nf_conntrack_tuple", []string{"dst", "u3"}},
		{l.dstPort, "nf_conntrack_tuple", []string{"dst", "u"}}, {l.protocol, "nf_conntrack_tuple", []string{"dst", "protonum"}},
		{l.direction, "nf_conntrack_tuple", []string{"dst", "dir"}},
	} {
		var s *btf.Struct
		if err := spec.TypeByName(c.of, &s); err != nil {
			t.Fatal(err)
		}
		want := 0
		for i, name := range c.way {
			for _, m := range s.Members {
				if m.Name == name {
					want += int(m.Offset.Bytes())
					if i < len(c.way)-1 {
						s = btf.UnderlyingType(m.Type).(*btf.Struct)
					}
					break
				}
			}
		}
		if c.got != want {
			t.Errorf("%s.%v is at %d, not %d", c.of, c.way, want, c.got)
		}
	}
	var s *btf.Struct
	if err := spec.TypeByName("nf_conntrack_tuple_hash", &s); err != nil || l.size != int(s.Size) {
		t.Errorf("a tuple has %d bytes, not %d, %v", s.Size, l.size, err)
	}
}

// written is BTF with types that have nothing behind their head, but for a structure's members.
func written(strings string, types ...[3]uint32) []byte {
	var body []byte
	for _, x := range types {
		for _, v := range x {
			body = binary.NativeEndian.AppendUint32(body, v)
		}
		body = append(body, make([]byte, 12*(x[1]&0xffff))...)
	}
	out := binary.NativeEndian.AppendUint16(nil, 0xeb9f)
	out = append(out, 1, 0)
	for _, v := range []int{24, 0, len(body), len(body), len(strings)} {
		out = binary.NativeEndian.AppendUint32(out, uint32(v))
	}
	return append(append(out, body...), strings...)
}

func TestFunctionsOfAModuleAreNumberedBehindTheKernels(t *testing.T) {
	kernel, err := parseTypes(written("\x00other\x00in_both\x00", [3]uint32{1, 4<<24 | 2, 8}, [3]uint32{1, 12 << 24, 1}))
	if err != nil {
		t.Fatal(err)
	}
	// A module has no name that the kernel has: it takes the kernel's.
	const kernelStrings = 15
	module, err := parseTypes(written("\x00own\x00", [3]uint32{kernelStrings + 1, 4<<24 | 1, 8}, [3]uint32{7, 12 << 24, 1}, [3]uint32{kernelStrings + 1, 12 << 24, 1}))
	if err != nil {
		t.Fatal(err)
	}
	ids, n, err := findTypes(kernel, kernelTypes{}, 0, []wantedType{{kindFunction, "other"}, {kindStruct, "other"}, {kindFunction, "in_both"}, {kindFunction, "the"}})
	if err != nil || n != 2 || ids[0] != 2 || ids[2] != 0 || ids[3] != 0 {
		t.Errorf("in the kernel: %v of %d, %v", ids, n, err)
	}
	ids, _, err = findTypes(module, kernel, n, []wantedType{{kindFunction, "own"}, {kindFunction, "in_both"}})
	if err != nil || ids[0] != 5 || ids[1] != 4 {
		t.Errorf("in the module: %v, %v", ids, err)
	}
}

func FuzzTypes(f *testing.F) {
	f.Add(written("\x00own\x00", [3]uint32{1, 12 << 24, 1}))
	if b, err := os.ReadFile(typesDir + "vmlinux"); err == nil {
		f.Add(b[:4096])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, func() {
			k, err := parseTypes(b)
			if err != nil {
				return
			}
			ids, n, err := findTypes(k, kernelTypes{}, 0, []wantedType{{kindFunction, "own"}})
			if err == nil && ids[0] > n {
				t.Errorf("type %d of %d", ids[0], n)
			}
		})
	})
}
