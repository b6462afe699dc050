//go:build linux

package readers

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/vm"
)

// compared are packages whose tests hold what is read, or modelled, against the kernel that they run on.
var compared = []string{"chainmem", "ctnl", "nft", "rtnl", "sockdiag", "wgnl", "xt"}

func TestReadersHoldOnAnOlderKernel(t *testing.T) {
	dir := t.TempDir()
	live, err := filepath.Abs("../../../nodeagent/live")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, name := range compared {
		program := filepath.Join(dir, name+".test")
		if err := vm.BuildTests(t.Context(), program, filepath.Join(live, name)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&script, "cd %s/%s && %s -test.timeout=4m && echo 'held: %s'\n", live, name, program, name)
	}
	r, err := vm.Run(t.Context(), vm.Options{Command: []string{"sh", "-c", script.String()}, Timeout: 15 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range compared {
		if !strings.Contains(r.Stdout, "held: "+name+"\n") {
			t.Errorf("%s fails on %s", name, r.Kernel)
		}
	}
	if t.Failed() {
		t.Logf("%s%s", r.Stdout, r.Stderr)
	}
}
