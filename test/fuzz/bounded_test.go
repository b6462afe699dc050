package fuzz

import "testing"

// recorder is a testing.TB that only notes a failure.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }

var sink []byte

func TestBoundedSeesWhatIsAllocated(t *testing.T) {
	r := &recorder{TB: t}
	Bounded(r, func() { sink = make([]byte, MaxBytes+1<<20) })
	if !r.failed {
		t.Error("an allocation beyond the bound passes")
	}
	r.failed = false
	Bounded(r, func() { sink = make([]byte, 1<<20) })
	if r.failed {
		t.Error("a small allocation fails")
	}
}
