package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"lab": main})
}

func TestScripts(t *testing.T) {
	programs, err := lab.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", cache)
			env.Setenv("CLIENT", programs.Client)
			// a script that fails must not leave its lab; where it is, only the script's environment says
			down := exec.Command("/proc/self/exe")
			down.Args = []string{"lab", "--name", "cli", "down"}
			down.Env = append(os.Environ(), "TMPDIR="+env.Getenv("TMPDIR"))
			env.Defer(func() {
				if out, err := down.CombinedOutput(); err != nil && !strings.Contains(string(out), "no lab cli") {
					t.Errorf("end the script's lab: %v: %s", err, out)
				}
			})
			return nil
		},
	})
}
