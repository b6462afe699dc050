package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// How many connections are made: many where chance decides, few where there is one fate.
const (
	many = 200
	few  = 20
)

// Patience: an answer may be late on a busy machine; what is dropped stays so, and is waited for all at once.
const (
	answerPatience  = 15 * time.Second
	silencePatience = 700 * time.Millisecond
)

// connector is where connections are made from.
type connector interface {
	fmt.Stringer
	Connect(ctx context.Context, to netip.AddrPort, o lab.ConnectOptions) (lab.Attempts, error)
}

// observation counts the fates of real connections.
type observation struct {
	counts   map[fate]int
	attempts lab.Attempts
}

func (o observation) String() string {
	lines := make([]string, 0, len(o.counts))
	for f, n := range o.counts {
		lines = append(lines, fmt.Sprintf("  %-5d %s", n, f))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// observe makes as many real connections as the prediction needs to be judged by.
func observe(ctx context.Context, from connector, protocol string, to netip.AddrPort, p prediction) (observation, error) {
	o := lab.ConnectOptions{Protocol: protocol, Count: many, Timeout: answerPatience}
	if p.certain() {
		o.Count = few
	}
	for f := range p {
		if f.result == lab.Timeout {
			o.Timeout, o.Parallel = silencePatience, min(o.Count, 64)
		}
	}
	return count(ctx, from, to, o)
}

// count makes connections and counts their fates.
func count(ctx context.Context, from connector, to netip.AddrPort, o lab.ConnectOptions) (observation, error) {
	attempts, err := from.Connect(ctx, to, o)
	if err != nil {
		return observation{}, err
	}
	seen := observation{counts: map[fate]int{}, attempts: attempts}
	for _, a := range attempts {
		f := fate{result: a.Result}
		if a.Result == lab.Answered {
			f.server, f.source = a.Server, a.Client.Addr()
		}
		seen.counts[f]++
	}
	return seen, nil
}

// differ says how counts differ from a prediction; empty if they do not. The statistic of the shares comes with it.
func differ(p prediction, o observation) (string, shares) {
	var counts []int
	var probabilities []float64
	for f, r := range p {
		x, _ := r.Float64()
		counts, probabilities = append(counts, o.counts[f]), append(probabilities, x)
	}
	var wrong []string
	for f := range o.counts {
		if p[f] == nil {
			wrong = append(wrong, fmt.Sprintf("%s was not traced", f))
		}
	}
	for f := range p {
		if o.counts[f] == 0 {
			wrong = append(wrong, fmt.Sprintf("%s was traced and not seen", f))
		}
	}
	s := chiSquare(counts, probabilities)
	if tail := s.tail(); len(wrong) == 0 && tail < rare {
		wrong = append(wrong, fmt.Sprintf("the shares are off: counts so far from them have a probability of %.2g", tail))
	}
	slices.Sort(wrong)
	return strings.Join(wrong, "; "), s
}
