//go:build linux

package oracle

import (
	"fmt"
	"math"
	"math/big"
	"sort"
	"strings"
)

// Chances collects how often outcomes with probabilities were seen. Packets that have the same outcomes with the same
// probabilities, in the same case, from the same source to the same destination, are tries of one experiment.
//
// Most experiments have few tries. So what is at the same place of a list of the same probabilities is pooled over all
// experiments too: the first of [1/3 1/3 1/3] must come in a third of all tries of such lists.
type Chances struct {
	experiments map[string]*experiment
	pools       map[string]*pooled
}

type pooled struct {
	p    float64
	k, n int
}

type experiment struct {
	name  string
	p     []float64
	text  []string
	count []int
	n     int
}

// Add counts an observation.
func (x *Chances) Add(c *Case, o *Observation, j Judgement) {
	if j.Outcome < 0 || o.Trace == nil || len(o.Trace.Outcomes) < 2 || !j.Decided {
		return
	}
	type cell struct {
		text string
		p    *big.Rat
		hit  bool
	}
	cells := make([]cell, len(o.Trace.Outcomes))
	for i, out := range o.Trace.Outcomes {
		if out.Probability == nil {
			return
		}
		cells[i] = cell{fmt.Sprint(out.Verdict, out.Out, out.Source.Addr(), out.Destination, out.RejectWith), out.Probability.Rat(), i == j.Outcome}
	}
	var list []string
	for _, cl := range cells {
		list = append(list, cl.p.RatString())
	}
	if x.pools == nil {
		x.pools = map[string]*pooled{}
	}
	for i, cl := range cells {
		key := fmt.Sprintf("place %d of %v", i, list)
		if x.pools[key] == nil {
			f, _ := cl.p.Float64()
			x.pools[key] = &pooled{p: f}
		}
		x.pools[key].n++
		if cl.hit {
			x.pools[key].k++
		}
	}
	sort.Slice(cells, func(a, b int) bool { return cells[a].text < cells[b].text })
	s := c.Shots[o.Shot]
	var key strings.Builder
	fmt.Fprintf(&key, "%s: %s %d %s -> %s stage %d", c.Name, s.From, s.Proto, s.Src.Addr(), s.Dst, o.Stage)
	name := key.String()
	for _, cl := range cells {
		fmt.Fprintf(&key, " | %s %s", cl.text, cl.p.RatString())
	}
	if x.experiments == nil {
		x.experiments = map[string]*experiment{}
	}
	e := x.experiments[key.String()]
	if e == nil {
		e = &experiment{name: name, count: make([]int, len(cells))}
		for _, cl := range cells {
			f, _ := cl.p.Float64()
			e.p, e.text = append(e.p, f), append(e.text, cl.text)
		}
		x.experiments[key.String()] = e
	}
	e.n++
	for i, cl := range cells {
		if cl.hit {
			e.count[i]++
		}
	}
}

// Tries is the number of observations counted, and Experiments how many experiments they make.
func (x *Chances) Tries() (tries, experiments int) {
	for _, e := range x.experiments {
		tries += e.n
	}
	return tries, len(x.experiments)
}

// Problems tests every outcome of every experiment by the exact binomial tail, and all experiments together by Pearson's
// chi-square. A right engine fails with a probability below 10^-6: each of the k tests may fail with 10^-6/2k.
func (x *Chances) Problems() []string {
	var out []string
	cells := len(x.pools)
	for _, e := range x.experiments {
		cells += len(e.p)
	}
	limit := math.Log(1e-6 / 4 / float64(max(cells, 1)))
	for key, e := range x.pools {
		if t := logTail(e.k, e.n, e.p); t < limit {
			out = append(out, fmt.Sprintf("%s over all experiments: seen %d times in %d tries (ln of the tail %.1f)", key, e.k, e.n, t))
		}
	}
	var chi, degrees float64
	for _, e := range x.experiments {
		for i, p := range e.p {
			if t := logTail(e.count[i], e.n, p); t < limit {
				out = append(out, fmt.Sprintf("%s: outcome %q of probability %.4f was seen %d times in %d tries (ln of the tail %.1f)", e.name, e.text[i], p, e.count[i], e.n, t))
			}
			// Cells that expect little would spoil the approximation.
			if want := p * float64(e.n); want >= 5 {
				d := float64(e.count[i]) - want
				// The expectation of each term is 1-p whatever the other cells are.
				chi += d * d / want
				degrees += 1 - p
			}
		}
	}
	// Wilson and Hilferty: the cube root of chi-square over its degrees is nearly normal. 5.1 sigma is 10^-6/5.
	if degrees > 0 {
		z := (math.Cbrt(chi/degrees) - (1 - 2/(9*degrees))) / math.Sqrt(2/(9*degrees))
		if z > 5.1 {
			out = append(out, fmt.Sprintf("all experiments together: chi-square %.1f with %.1f degrees of freedom (%.1f sigma)", chi, degrees, z))
		}
	}
	sort.Strings(out)
	return out
}

// logTail is the logarithm of the probability of a count at least as far from its mean, on its side.
func logTail(k, n int, p float64) float64 {
	if p <= 0 || p >= 1 {
		if (p <= 0 && k > 0) || (p >= 1 && k < n) {
			return math.Inf(-1)
		}
		return 0
	}
	from, to := 0, k
	if float64(k) > p*float64(n) {
		from, to = k, n
	}
	sum := 0.0
	for i := from; i <= to; i++ {
		sum += math.Exp(logChoose(n, i) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return math.Log(sum)
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}
