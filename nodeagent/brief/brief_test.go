package brief

import (
	"runtime"
	"testing"
)

func TestOneProcessorUntilMoreAreWanted(t *testing.T) {
	if n := runtime.GOMAXPROCS(0); n != 1 || runtime.MemProfileRate != 0 {
		t.Errorf("%d processors, memory is sampled every %d bytes", n, runtime.MemProfileRate)
	}
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	AllProcessors()
	if n := runtime.GOMAXPROCS(0); n > runtime.NumCPU() {
		t.Errorf("%d processors of %d", n, runtime.NumCPU())
	}
}
