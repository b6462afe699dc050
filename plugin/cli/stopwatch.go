package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// stopwatch prints with -v what took how long.
type stopwatch struct {
	w           io.Writer
	begin, last time.Time
}

func newStopwatch(w io.Writer, on bool) *stopwatch {
	if !on {
		w = nil
	}
	now := time.Now()
	return &stopwatch{w: w, begin: now, last: now}
}

// lap prints the time since the last lap.
func (s *stopwatch) lap(what string) {
	now := time.Now()
	if s.w != nil {
		fmt.Fprintf(s.w, "time: %8s  %s\n", since(s.last, now), what)
	}
	s.last = now
}

func (s *stopwatch) total() {
	if s.w != nil {
		fmt.Fprintf(s.w, "time: %8s  in all\n", since(s.begin, time.Now()))
	}
}

// agents prints each agent's way to the conversation, and its own work.
func (s *stopwatch) agents(fleet *launch.Fleet, nodes []*survey.Node) {
	if s.w == nil {
		return
	}
	for _, n := range nodes {
		a, err := fleet.Agent(context.Background(), n.Name)
		if err != nil {
			continue
		}
		reads, bytes := 0, int64(0)
		for i := range n.Walks {
			if t := n.Walks[i].Trace; t != nil {
				reads, bytes = reads+t.Reads.Messages, bytes+t.Reads.Bytes
			}
		}
		fmt.Fprintf(s.w, "time: node %s: pod created after %s, running after %s; the agent itself worked %s on %d walks (%d reads, %d bytes)\n",
			n.Name, a.Created.Round(time.Millisecond), a.Running.Round(time.Millisecond),
			(time.Duration(n.Micros) * time.Microsecond).Round(10*time.Microsecond), len(n.Walks), reads, bytes)
	}
}

func since(from, to time.Time) time.Duration { return to.Sub(from).Round(time.Millisecond) }
