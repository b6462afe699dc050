//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"time"
)

// usage is what processes took.
type usage struct {
	// wall is from start to end; cpu is user and system time.
	wall, cpu time.Duration
	// memory is the most that was resident, in bytes.
	memory int64
}

// once runs a program with its output in a file, and returns what it took.
func (p *programs) once(ctx context.Context, output string, command []string) (usage, error) {
	var u usage
	cmd := exec.CommandContext(ctx, p.floor, append([]string{"measure", output}, command...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return u, fmt.Errorf("%s: %w: %s", command[0], err, errs.Bytes())
	}
	if _, err := fmt.Sscan(out.String(), (*int64)(&u.wall), (*int64)(&u.cpu), &u.memory); err != nil {
		return u, fmt.Errorf("measuring %s: %w", command[0], err)
	}
	return u, nil
}

// median returns the medians of times, and the greatest memory.
func median(list []usage) usage {
	var out usage
	wall, cpu := make([]time.Duration, len(list)), make([]time.Duration, len(list))
	for i, u := range list {
		wall[i], cpu[i] = u.wall, u.cpu
		out.memory = max(out.memory, u.memory)
	}
	slices.Sort(wall)
	slices.Sort(cpu)
	out.wall, out.cpu = wall[len(wall)/2], cpu[len(cpu)/2]
	return out
}
