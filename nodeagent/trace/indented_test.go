package trace

import (
	"encoding/json"
	"math/big"
	"math/rand"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var texts = []string{"", "web", "10.0.0.1 . tcp . 80 is in services", "<&>", "a\"b\\c", "é \u2028 日本", "\x1b]0;\x7f", "\xff\xfe", "tab\tline\n"}

// fill gives every field of v a value that differs from run to run, or leaves it empty.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Interface().(type) {
	case netip.AddrPort:
		v.Set(reflect.ValueOf([]netip.AddrPort{{}, netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("[fe80::1%eth0]:443")}[r.Intn(3)]))
		return
	case netip.Addr:
		v.Set(reflect.ValueOf([]netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("0.0.0.0")}[r.Intn(4)]))
		return
	case Probability:
		v.Set(reflect.ValueOf(ProbabilityOf(big.NewRat(r.Int63n(5), 5))).Elem())
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	case reflect.Pointer:
		if r.Intn(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem())
		}
	case reflect.Slice:
		if n := r.Intn(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
			for i := range n - 1 {
				fill(r, v.Index(i))
			}
		}
	case reflect.String:
		v.SetString(texts[r.Intn(len(texts))])
	case reflect.Bool:
		v.SetBool(r.Intn(2) > 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(r.Intn(3)) * (1<<40 + 1) * int64(1-2*r.Intn(2)))
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint([]uint64{0, 1, 1<<v.Type().Bits() - 1}[r.Intn(3)])
	default:
		panic(v.Type())
	}
}

func TestIndentedIsWhatEncodingJSONWrites(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for range 2000 {
		var x Trace
		fill(r, reflect.ValueOf(&x).Elem())
		want, err := json.MarshalIndent(&x, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.Indented()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Fatalf("%s", cmp.Diff(string(want), string(got)))
		}
	}
}
