//go:build labkube

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// tools is a directory in front of PATH, where iptables is the variant that a case asks for. xtables' lock is there too,
// so that nobody waits for the machine's.
type tools struct{ dir string }

func newTools() (*tools, error) {
	dir, err := os.MkdirTemp("", "kubeproxy-state")
	if err != nil {
		return nil, err
	}
	t := &tools{dir}
	if err := os.Setenv("PATH", dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return nil, err
	}
	return t, os.Setenv("XTABLES_LOCKFILE", filepath.Join(dir, "xtables.lock"))
}

// use links the programs of a backend.
func (t *tools) use(b Backend) error {
	variant := map[Backend]string{IPTablesNFT: "xtables-nft-multi", IPTablesLegacy: "xtables-legacy-multi"}[b]
	if variant == "" {
		return nil
	}
	target := ""
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, variant)); err == nil {
			target = filepath.Join(dir, variant)
			break
		}
	}
	if target == "" {
		return fmt.Errorf("%s is not installed", variant)
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, program := range []string{"", "-save", "-restore"} {
			link := filepath.Join(t.dir, family+program)
			if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
				return err
			}
			if err := os.Symlink(target, link); err != nil {
				return err
			}
		}
	}
	return nil
}

// empty removes all rules and chains from the tables that kube-proxy writes to.
func (t *tools) empty(ctx context.Context, families []v1.IPFamily) error {
	for _, f := range families {
		program := "iptables-restore"
		if f == v1.IPv6Protocol {
			program = "ip6tables-restore"
		}
		cmd := exec.CommandContext(ctx, program)
		cmd.Stdin = strings.NewReader("*mangle\nCOMMIT\n*filter\nCOMMIT\n*nat\nCOMMIT\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", program, err, out)
		}
	}
	return nil
}

func (t *tools) remove() { os.RemoveAll(t.dir) }
