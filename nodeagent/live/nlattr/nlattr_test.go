package nlattr

import "testing"

func TestAttributesComeBackAsWritten(t *testing.T) {
	b := Append(Append(nil, 1|Nested, []byte("abc")), 2, Uint32(7))
	var types []uint16
	err := Each(b, func(typ uint16, p []byte) error {
		types = append(types, typ)
		if typ == 1 && string(p) != "abc" {
			t.Errorf("payload %q", p)
		}
		return nil
	})
	if err != nil || len(types) != 2 || types[0] != 1 || types[1] != 2 {
		t.Errorf("types %v, %v", types, err)
	}
	if err := Each([]byte{0xff, 0, 1, 0}, func(uint16, []byte) error { return nil }); err == nil {
		t.Error("an attribute longer than its message was taken")
	}
}
