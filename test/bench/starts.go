//go:build linux

package main

import (
	"context"
	"path/filepath"
)

// starts is what it takes to start the programs, without anything that they do.
type starts struct{ floor, agent usage }

// measureStarts starts them in turn.
func measureStarts(ctx context.Context, p *programs, runs int) (starts, error) {
	var floors, agents []usage
	for range runs {
		for _, m := range []struct {
			command []string
			to      *[]usage
		}{{[]string{p.floor, "nft"}, &floors}, {[]string{p.agent, "--version"}, &agents}} {
			u, err := p.once(ctx, filepath.Join(p.dir, "start"), m.command)
			if err != nil {
				return starts{}, err
			}
			*m.to = append(*m.to, u)
		}
	}
	return starts{median(floors), median(agents)}, nil
}
