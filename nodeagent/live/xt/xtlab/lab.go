//go:build linux

// Package xtlab lets tests load rules with the real tools into a network namespace of their own. Tests fail when the
// machine cannot do that.
package xtlab

import (
	"context"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// Lab is a network namespace that only the calling test is in, with loopback up.
type Lab struct {
	t    testing.TB
	lock string
}

// New moves the calling test's thread into a new network namespace, for the rest of the test.
func New(t testing.TB) *Lab {
	t.Helper()
	runtime.LockOSThread() // and never unlock: the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
	l := &Lab{t: t, lock: filepath.Join(t.TempDir(), "xtables.lock")}
	l.Run("ip", "link", "set", "lo", "up")
	return l
}

// Try runs a command in the namespace and returns its output; with an error what it wrote on standard error as well.
func (l *Lab) Try(stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "XTABLES_LOCKFILE=" + l.lock}
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

// Run runs a command in the namespace; the test fails when it fails.
func (l *Lab) Run(name string, args ...string) string {
	l.t.Helper()
	return l.Input("", name, args...)
}

// Input is Run with text on standard input.
func (l *Lab) Input(stdin, name string, args ...string) string {
	l.t.Helper()
	out, err := l.Try(stdin, name, args...)
	if err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Tool is the iptables command of a family and backend: "iptables-legacy", "ip6tables-nft-restore" …
func Tool(f skb.Family, backend, suffix string) string {
	name := "iptables"
	if f == skb.IPv6 {
		name = "ip6tables"
	}
	if suffix != "" {
		suffix = "-" + suffix
	}
	return name + "-" + backend + suffix
}

// Restore loads the lines of an iptables-restore file into one legacy table, without flushing it.
func (l *Lab) Restore(f skb.Family, table string, lines ...string) {
	l.t.Helper()
	in := "*" + table + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
	l.Input(in, Tool(f, "legacy", "restore"), "--noflush")
}

// Table reads a legacy table back from the kernel.
func (l *Lab) Table(f skb.Family, table string) *xtables.Table {
	l.t.Helper()
	r := xt.New(nil)
	defer r.Close()
	info, entries, err := r.LegacyTable(context.Background(), f, table)
	if err != nil {
		l.t.Fatal(err)
	}
	t, err := xtables.DecodeTable(f, table, info, entries)
	if err != nil {
		l.t.Fatal(err)
	}
	return t
}

// Saved returns the rules of a legacy table as iptables-save prints them, without policies and comments.
func (l *Lab) Saved(f skb.Family, table string) []string {
	l.t.Helper()
	var out []string
	for _, line := range strings.Split(l.Run(Tool(f, "legacy", "save"), "-t", table), "\n") {
		if strings.HasPrefix(line, "-A ") {
			out = append(out, strings.TrimRight(line, " "))
		}
	}
	return out
}

// Rules returns every rule of a table in order, policies and chain ends left out.
func Rules(t testing.TB, table *xtables.Table) []xtables.Rule {
	t.Helper()
	var out []xtables.Rule
	err := table.Chains(func(c xtables.Chain) bool {
		r, err := table.First(c.Start)
		for ; err == nil && !r.Policy && !r.ChainEnd; r, err = table.Next(r) {
			out = append(out, r)
		}
		if err != nil {
			t.Error(err)
		}
		return err == nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
