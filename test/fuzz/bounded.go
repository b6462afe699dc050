// Package fuzz bounds what decoders may allocate for one input.
package fuzz

import (
	"runtime/metrics"
	"testing"
)

// MaxBytes is what a decoder may allocate for one input, in bytes: all that it allocates, so more than it holds at a time.
const MaxBytes = 64 << 20

const allocated = "/gc/heap/allocs:bytes"

// Bounded runs f and fails the test when it has allocated more than MaxBytes. Allocations of other goroutines count too.
func Bounded(t testing.TB, f func()) {
	t.Helper()
	before := total()
	f()
	if n := total() - before; n > MaxBytes {
		t.Errorf("one input made the decoder allocate %d bytes, more than %d", n, MaxBytes)
	}
}

func total() uint64 {
	s := []metrics.Sample{{Name: allocated}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
