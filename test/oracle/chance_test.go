//go:build linux

package oracle

import (
	"math"
	"testing"
)

func TestLogTailIsTheBinomialTail(t *testing.T) {
	for _, c := range []struct {
		k, n int
		p    float64
		want float64
	}{
		{0, 10, 0.5, 1.0 / 1024},
		{10, 10, 0.5, 1.0 / 1024},
		{1, 3, 0.5, 0.5},
		{2, 2, 1.0 / 3, 1.0 / 9},
		{5, 5, 1, 1},
		{1, 5, 0, 0},
	} {
		if got := math.Exp(logTail(c.k, c.n, c.p)); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%d of %d at %g: %g, want %g", c.k, c.n, c.p, got, c.want)
		}
	}
}

func TestChancesNoticeAWrongProbability(t *testing.T) {
	fair := &experiment{name: "fair", p: []float64{0.5, 0.5}, text: []string{"a", "b"}, count: []int{95, 105}, n: 200}
	if p := (&Chances{experiments: map[string]*experiment{"fair": fair}}).Problems(); len(p) > 0 {
		t.Errorf("95 of 200 at 1/2: %v", p)
	}
	missing := &experiment{name: "missing", p: []float64{0.875, 0.125}, text: []string{"a", "b"}, count: []int{200, 0}, n: 200}
	if p := (&Chances{experiments: map[string]*experiment{"missing": missing}}).Problems(); len(p) == 0 {
		t.Error("an outcome of probability 1/8 that never comes in 200 tries is no problem")
	}
}
