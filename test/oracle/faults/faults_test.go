//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestOracleCatchesEveryFault builds the oracle over an engine with one fault, for each, and runs it with a fixed seed.
func TestOracleCatchesEveryFault(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(All) < 30 {
		t.Fatalf("there are %d faults, fewer than 30", len(All))
	}
	if out, err := run(root, build(t, root, Fault{File: All[0].File}), many); err != nil {
		t.Fatalf("the engine without a fault must pass: %v\n%s", err, out)
	}
	for _, f := range All {
		t.Run(f.Name, func(t *testing.T) {
			bin := build(t, root, f)
			out, err := run(root, bin, few)
			if err == nil {
				out, err = run(root, bin, many)
			}
			if err == nil {
				t.Fatal("the oracle did not notice")
			}
			if !bytes.Contains(out, []byte("--- FAIL: TestKernelAgrees")) {
				t.Fatalf("the oracle failed in another way: %v\n%s", err, out)
			}
		})
	}
}

// Most faults show within a few packets of each kind; wrong probabilities need many.
const (
	few  = 200
	many = 2000
)

// run runs the oracle with a fixed seed, the recorded cases first, until the first problem.
func run(root, bin string, packets int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "-test.run", "KernelAgrees", "-test.failfast")
	cmd.Dir = filepath.Join(root, "test", "oracle")
	cmd.Env = append(os.Environ(), "ORACLE_SEED=20260101", "ORACLE_PACKETS="+strconv.Itoa(packets), "ORACLE_FAILFAST=1")
	return cmd.CombinedOutput()
}

// build compiles the oracle's tests with the fault laid over the engine; a fault without an old text changes nothing.
func build(t *testing.T, root string, f Fault) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(root, f.File)
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), f.Old); n != 1 && f.Old != "" {
		t.Fatalf("%s has the place to break %d times, not once: the fault must follow the engine", f.File, n)
	}
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, []byte(strings.Replace(string(text), f.Old, f.New, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: broken}})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile, bin := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "oracle.test")
	if err := os.WriteFile(overlayFile, overlay, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlayFile, "-o", bin, "./test/oracle")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building with the fault: %v\n%s", err, out)
	}
	return bin
}
