package faults

import (
	"testing"
)

func TestFaults(t *testing.T) {
	b := newBed(t)
	t.Run("healthy", func(t *testing.T) {
		r, err := b.diagnose(t.Context(), lab_name)
		if err != nil {
			t.Fatal(err)
		}
		t.Log("\n" + text(r.Findings))
		if got := loud(r); len(got) > 0 {
			t.Errorf("%v", got)
		}
	})
}

const lab_name = "web"
