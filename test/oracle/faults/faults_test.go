//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFaultsFollowTheEngine looks for the place of each fault, which takes no time: a change of the engine may have moved it.
func TestFaultsFollowTheEngine(t *testing.T) {
	for _, f := range All {
		if _, err := f.apply("../../.."); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
}

// TestOracleCatchesEveryFault builds the oracle over an engine with one fault, for each, and runs it with a fixed seed.
func TestOracleCatchesEveryFault(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(All) < 30 {
		t.Fatalf("there are %d faults, fewer than 30", len(All))
	}
	// With many packets the oracle runs over an engine without a fault in its own test, with the same seed.
	if out, err := run(root, build(t, root, Fault{File: All[0].File}), few); err != nil {
		t.Fatalf("the engine without a fault must pass: %v\n%s", err, out)
	}
	bins := builds(t, root)
	for i, f := range All {
		bin := <-bins[i]
		t.Run(f.Name, func(t *testing.T) {
			out, err := run(root, bin, 0)
			if err == nil {
				out, err = run(root, bin, few)
			}
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

// builds compiles for one fault while the test runs another's.
func builds(t *testing.T, root string) []chan string {
	t.Helper()
	out := make([]chan string, len(All))
	for i := range out {
		out[i] = make(chan string, 1)
	}
	next := make(chan struct{}, 2)
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for i, f := range All {
			next <- struct{}{}
			bin, err := compile(t.TempDir(), root, f)
			if err != nil {
				t.Errorf("%s: %v", f.Name, err)
			}
			out[i] <- bin
			<-next
		}
	}()
	return out
}

// Most faults show in the recorded cases, or within a few packets of each kind; wrong probabilities need many.
const (
	few  = 200
	many = 2000
)

// run runs the oracle with a fixed seed until the first problem: the recorded cases alone when packets is 0, else the random
// ones.
func run(root, bin string, packets int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	tests := "KernelAgreesOnRandom"
	if packets == 0 {
		tests, packets = "KernelAgreesOnRecorded", few
	}
	cmd := exec.CommandContext(ctx, bin, "-test.run", tests, "-test.failfast")
	cmd.Dir = filepath.Join(root, "test", "oracle")
	cmd.Env = append(os.Environ(), "ORACLE_SEED=20260101", "ORACLE_PACKETS="+strconv.Itoa(packets), "ORACLE_FAILFAST=1")
	return cmd.CombinedOutput()
}

// build compiles the oracle's tests with the fault laid over the engine; a fault without an old text changes nothing.
func build(t *testing.T, root string, f Fault) string {
	t.Helper()
	bin, err := compile(t.TempDir(), root, f)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// apply returns the file of the engine with the fault in it.
func (f Fault) apply(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, f.File))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), f.Old); n != 1 && f.Old != "" {
		return "", fmt.Errorf("%s has the place to break %d times, not once: the fault must follow the engine", f.File, n)
	}
	return strings.Replace(string(text), f.Old, f.New, 1), nil
}

func compile(dir, root string, f Fault) (string, error) {
	source, broken := filepath.Join(root, f.File), filepath.Join(dir, "broken.go")
	text, err := f.apply(root)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(broken, []byte(text), 0o644); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: broken}})
	if err != nil {
		return "", err
	}
	overlayFile, bin := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "oracle.test")
	if err := os.WriteFile(overlayFile, overlay, 0o644); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlayFile, "-o", bin, "./test/oracle")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building with the fault: %w\n%s", err, out)
	}
	return bin, nil
}
