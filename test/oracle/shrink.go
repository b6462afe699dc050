//go:build linux

package oracle

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Shrink returns a smaller case that fails still, found within the time given. fails runs a case and tells.
func Shrink(c *Case, budget time.Duration, fails func(*Case) bool) *Case {
	deadline := time.Now().Add(budget)
	guards := guardLines(c)
	best := c
	try := func(candidate *Case) bool {
		if time.Now().After(deadline) || guardLines(candidate) != guards && !c.AnswersMayDie || !fails(candidate) {
			return false
		}
		best = candidate
		return true
	}
	// One packet alone, when it fails alone.
	if len(best.Shots) > 1 {
		for i := range c.Shots {
			one := *c
			one.Shots = c.Shots[i : i+1]
			if try(&one) {
				break
			}
		}
	}
	shrinkList(func() int { return len(best.Shots) }, func(from, to int) bool {
		if to-from == len(best.Shots) {
			return false
		}
		less := *best
		less.Shots = slices.Delete(slices.Clone(best.Shots), from, to)
		return try(&less)
	})
	for i := 0; i < len(best.Steps); i++ {
		less := *best
		less.Steps = slices.Delete(slices.Clone(best.Steps), i, i+1)
		if try(&less) {
			i--
		}
	}
	for again := true; again && time.Now().Before(deadline); {
		size := len(best.Format())
		for i := range best.Steps {
			lines := func() []string { return strings.Split(strings.TrimSuffix(best.Steps[i].Input, "\n"), "\n") }
			shrinkList(func() int { return len(lines()) }, func(from, to int) bool {
				return try(withInput(best, i, slices.Delete(lines(), from, to)))
			})
		}
		again = len(best.Format()) < size
	}
	return best
}

func withInput(c *Case, step int, lines []string) *Case {
	less := *c
	less.Steps = slices.Clone(c.Steps)
	less.Steps[step].Input = strings.Join(lines, "\n") + "\n"
	return &less
}

// shrinkList takes ever smaller pieces away, from the end on.
func shrinkList(length func() int, without func(from, to int) bool) {
	for size := max(length()/2, 1); ; size /= 2 {
		for to := length(); to > 0; {
			from := max(to-size, 0)
			if without(from, to) {
				to = min(from, length())
				continue
			}
			to = from
		}
		if size <= 1 {
			return
		}
	}
}

// failsLike tells whether a case shows a problem with the same kind of fate as the first.
func (l *Lab) failsLike(ctx context.Context, first *Observation) func(*Case) bool {
	return func(c *Case) bool {
		if len(c.Shots) == 0 {
			return false
		}
		obs, err := l.Run(ctx, c)
		if err != nil {
			return false
		}
		return slices.ContainsFunc(obs, func(o *Observation) bool {
			return o.Stage == first.Stage && o.Fate.Kind == first.Fate.Kind && (o.Err == nil) == (first.Err == nil) && judge(c, o).Problem != ""
		})
	}
}

// guardLines counts the rules that let the answers of refusals pass: a case that relies on them keeps them.
func guardLines(c *Case) int {
	n := 0
	for _, s := range c.Steps {
		for l := range strings.Lines(s.Input) {
			if isGuard(l) {
				n++
			}
		}
	}
	return n
}

func isGuard(line string) bool {
	return strings.Contains(line, "destination-unreachable accept") || strings.Contains(line, "rst == rst accept") ||
		strings.Contains(line, "destination-unreachable -j ACCEPT") || strings.Contains(line, "RST RST -j ACCEPT")
}
