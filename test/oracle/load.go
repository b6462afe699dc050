//go:build linux

package oracle

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// tools are the programs that load rules, and their arguments; all read standard input, and
// add to what is there.
var tools = map[string][]string{
	"ip":               {"ip", "-batch", "-"},
	"ip6":              {"ip", "-6", "-batch", "-"},
	"iptables-legacy":  {"iptables-legacy-restore", "--noflush"},
	"ip6tables-legacy": {"ip6tables-legacy-restore", "--noflush"},
	"iptables-nft":     {"iptables-nft-restore", "--noflush"},
	"ip6tables-nft":    {"ip6tables-nft-restore", "--noflush"},
	"nft":              {"nft", "-f", "-"},
	"ipset":            {"ipset", "restore"},
	"bridge":           {"bridge", "-batch", "-"},
}

// loadError says that a tool refused its input.
type loadError struct {
	tool, output string
	err          error
}

func (e *loadError) Error() string { return fmt.Sprintf("%s: %v: %s", e.tool, e.err, e.output) }
func (e *loadError) Unwrap() error { return e.err }

// runTool runs a tool in the calling thread's namespace. lock is the path of xtables' lock file.
func runTool(lock, tool, input string) error {
	argv := tools[tool]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "XTABLES_LOCKFILE=" + lock}
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &loadError{tool, strings.TrimSpace(string(out)), err}
	}
	return fmt.Errorf("running %s: %w", tool, err)
}

// load runs the steps of a case in the calling thread's namespace.
func load(lock string, steps []Step) error {
	for _, s := range steps {
		var err error
		switch s.Tool {
		case "sysctl":
			err = writeSysctls(strings.Split(s.Input, "\n"))
		case "nfacct":
			err = account(s.Input)
		case "listen": // when the node's stack is open
		default:
			err = runTool(lock, s.Tool, s.Input)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
