// Package main's tests have no build tag: they run the built program, which the cache has.
package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// run runs a program and returns its exit code and what it said.
func run(t *testing.T, program string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var out, err strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if e := cmd.Run(); errors.As(e, &exit) {
		code = exit.ExitCode()
	} else if e != nil {
		t.Fatal(e)
	}
	return code, out.String(), err.String()
}

func TestOneBinaryIsEveryProgram(t *testing.T) {
	programs, err := lab.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"} {
		if code, out, _ := run(t, programs.Labkube, name, "--version"); code != 0 || out != "Kubernetes "+programs.Kubernetes+"\n" {
			t.Errorf("%s: exit code %d, %q, want version %s", name, code, out, programs.Kubernetes)
		}
		if code, out, err := run(t, programs.Labkube, name, "--bogus"); code == 0 || out != "" || !strings.Contains(err, "unknown flag: --bogus") {
			t.Errorf("%s --bogus: exit code %d, %q, %q", name, code, out, err)
		}
	}
	link := filepath.Join(t.TempDir(), "kubectl")
	if err := os.Symlink(programs.Labkube, link); err != nil {
		t.Fatal(err)
	}
	if code, out, err := run(t, link, "version", "--client"); code != 0 || !strings.Contains(out, "Client Version: "+programs.Kubernetes) {
		t.Errorf("by the name kubectl: exit code %d, %q, %q", code, out, err)
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no program":         {nil, 2, "usage: labkube etcd|"},
		"an unknown program": {[]string{"kube-dns"}, 2, `labkube: unknown program "kube-dns"`},
		"etcd, no flag":      {[]string{"etcd", "--bogus"}, 1, "etcd: flag provided but not defined: -bogus"},
		"etcd, no URL":       {[]string{"etcd", "--data-dir", t.TempDir(), "--listen", ":"}, 1, "etcd: --listen: "},
		"etcd, no peer URL":  {[]string{"etcd", "--data-dir", t.TempDir(), "--peer", ":"}, 1, "etcd: --peer: "},
		"kubectl":            {[]string{"kubectl", "frobnicate"}, 1, `unknown command "frobnicate"`},
	} {
		if code, out, err := run(t, programs.Labkube, tc.args...); code != tc.code || out != "" || !strings.Contains(err, tc.says) {
			t.Errorf("%s: exit code %d, %q, %q", name, code, out, err)
		}
	}
}
