//go:build linux

package vm

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// inside is set in the environment of tests that run in a machine.
const inside = "SVCTRACE_IN_VM"

// passed are the flags of a test binary that mean the same in a machine.
var passed = []string{"run", "skip", "v", "count", "failfast", "short", "list"}

// Main is for a package's TestMain: it runs all of its tests in a machine, as root, with the options' modules, memory and
// time, and returns the status to exit with. In the machine it only runs them. They are built without the race detector.
//
//	func TestMain(m *testing.M) { os.Exit(vm.Main(m, vm.Options{})) }
func Main(m *testing.M, o Options) int {
	if os.Getenv(inside) != "" {
		return m.Run()
	}
	flag.Parse()
	status, err := testInside(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return status
}

// testInside builds the tests of the package in the working directory and runs them in a machine.
func testInside(o Options) (int, error) {
	ctx := context.Background()
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	tmp, err := os.MkdirTemp("", "svctrace-vm-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	program := filepath.Join(tmp, "tests")
	if err := BuildTests(ctx, program, "."); err != nil {
		return 0, err
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTime
	}
	// A test that hangs should rather be ended by its own clock, which tells where it hangs.
	o.Command = []string{program, "-test.timeout=" + (o.Timeout * 9 / 10).String()}
	for _, name := range passed {
		if f := flag.Lookup("test." + name); f.Value.String() != f.DefValue {
			o.Command = append(o.Command, "-"+f.Name+"="+f.Value.String())
		}
	}
	o.Dir, o.Env = dir, append(o.Env, inside+"=1")
	r, err := Run(ctx, o)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Fprint(os.Stdout, r.Stdout)
	fmt.Fprint(os.Stderr, r.Stderr)
	return r.Status, err
}
