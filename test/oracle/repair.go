//go:build linux

package oracle

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Repair returns the case without the lines that a tool refuses: random rules are not all possible, and which are is the
// kernel's to say. dropped are the lines left out.
func (l *Lab) Repair(c *Case) (repaired *Case, dropped []string, err error) {
	copied := *c
	copied.Steps = nil
	err = l.node.do(func() error {
		b, err := l.prepare(&Case{})
		if err != nil {
			return err
		}
		b.stack.close()
		for _, s := range c.Steps {
			kept, bad, err := l.sift(s)
			if err != nil {
				return err
			}
			dropped = append(dropped, bad...)
			copied.Steps = append(copied.Steps, kept)
		}
		return nil
	})
	return &copied, dropped, err
}

// sift loads a step line by line and keeps the lines that load.
func (l *Lab) sift(s Step) (kept Step, bad []string, err error) {
	kept.Tool = s.Tool
	whole := load(l.lock, []Step{s})
	var refused *loadError
	if whole == nil || !errors.As(whole, &refused) {
		return s, nil, whole
	}
	xtables := strings.Contains(s.Tool, "tables-")
	var b strings.Builder
	table := ""
	for line := range strings.Lines(s.Input) {
		line := strings.TrimSuffix(line, "\n")
		if !xtables {
			err = runTool(l.lock, s.Tool, line+"\n")
		} else {
			switch {
			case strings.HasPrefix(line, "*"):
				table = line
				fmt.Fprintln(&b, line)
				continue
			case line == "COMMIT":
				fmt.Fprintln(&b, line)
				continue
			}
			err = runTool(l.lock, s.Tool, table+"\n"+line+"\nCOMMIT\n")
		}
		switch {
		case err == nil:
			fmt.Fprintln(&b, line)
		case errors.As(err, &refused):
			bad = append(bad, s.Tool+": "+line+": "+refused.output)
		default:
			return kept, nil, err
		}
	}
	kept.Input = b.String()
	return kept, bad, nil
}

// empty makes the calling thread's namespace a new, empty one.
func empty() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	return nil
}
