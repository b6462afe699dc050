package diagnose

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestUpperGammaIsTheTailOfChiSquare(t *testing.T) {
	for _, c := range []struct{ df, x, want float64 }{ // tables of the chi-square distribution
		{1, 3.841459, 0.05}, {1, 23.92813, 1e-6}, {2, 13.81551, 0.001}, {5, 11.0705, 0.05}, {10, 29.5883, 0.001}, {50, 67.5048, 0.05}, {3, 0, 1}, {4, 0.710723, 0.95},
	} {
		if got := upperGamma(c.df/2, c.x/2); math.Abs(got-c.want) > 1e-4*c.want {
			t.Errorf("%v degrees of freedom at %v: %v, want %v", c.df, c.x, got, c.want)
		}
	}
}

func TestChiSquareTellsChanceFromFault(t *testing.T) {
	for name, c := range map[string]struct {
		counts  []int
		shares  []float64
		ok, low bool
	}{
		"even":                                {[]int{22, 18}, []float64{0.5, 0.5}, true, false},
		"one endpoint gets nothing":           {[]int{0, 60}, []float64{0.5, 0.5}, true, true},
		"too few to tell":                     {[]int{0, 4}, []float64{0.5, 0.5}, false, false},
		"one connection to a rare endpoint":   {[]int{1, 0}, []float64{0.001, 0.999}, false, false},
		"a rare endpoint gets all":            {[]int{100, 0}, []float64{0.01, 0.99}, false, false},
		"many rare endpoints, pooled, get it": {[]int{50, 50, 0}, []float64{0.03, 0.03, 0.94}, true, true},
		"one endpoint":                        {[]int{50}, []float64{1}, false, false},
		"none":                                {nil, nil, false, false},
	} {
		p, ok := chiSquare(c.counts, c.shares)
		if ok != c.ok || ok && (p < spreadBound) != c.low {
			t.Errorf("%s: %v, %v", name, p, ok)
		}
	}
}

func TestChiSquareRarelyAccusesChance(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	shares := []float64{0.5, 0.3, 0.1, 0.06, 0.04}
	low := 0
	for range 20000 {
		counts := make([]int, len(shares))
		for range 60 {
			x := r.Float64()
			for i, s := range shares {
				if x -= s; x < 0 || i == len(shares)-1 {
					counts[i]++
					break
				}
			}
		}
		if p, ok := chiSquare(counts, shares); ok && p < spreadBound {
			low++
		}
	}
	if low > 0 {
		t.Errorf("%d of 20000 fair spreads are called unfair", low)
	}
}
