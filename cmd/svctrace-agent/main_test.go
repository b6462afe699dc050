//go:build linux

package main

import (
	"errors"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"svctrace-agent": main}) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code}})
}

// code runs a program and compares its exit code: code 2 svctrace-agent packet.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code CODE PROGRAM [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// TestServeEndsWithASignal holds its input open, as a plugin does that is still there.
func TestServeEndsWithASignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd := exec.CommandContext(t.Context(), "svctrace-agent", "serve")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// it answers: it is past its beginning, and waits for the next request
		if err := wire.Write(in, wire.Request{ID: 1}); err != nil {
			t.Fatal(err)
		}
		var hello wire.Hello
		var answer wire.Answer
		if err := errors.Join(wire.Read(out, &hello), wire.Read(out, &answer)); err != nil || answer.ID != 1 {
			t.Fatalf("%+v, %v", answer, err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
	}
}
