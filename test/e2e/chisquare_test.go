package e2e

import (
	"math"
	"testing"
)

// rare is how improbable counts must be under the traced shares to fail one comparison. A run makes fewer than 2,000
// comparisons and a handful of sums over them, so a right engine fails less than once in 10^6 runs, with room for the
// small counts at which the distribution's tail is a little heavier than chi-square's.
const rare = 1e-11

// shares is a chi-square statistic with its degrees of freedom; statistics of independent samples add up.
type shares struct {
	statistic float64
	freedom   int
}

// chiSquare compares counts with the probabilities that they should have, of which more than 0 each.
func chiSquare(counts []int, probabilities []float64) shares {
	n := 0
	for _, c := range counts {
		n += c
	}
	if n == 0 {
		return shares{}
	}
	s := shares{freedom: len(counts) - 1}
	for i, c := range counts {
		want := float64(n) * probabilities[i]
		s.statistic += (float64(c) - want) * (float64(c) - want) / want
	}
	return s
}

func (s shares) add(o shares) shares {
	return shares{s.statistic + o.statistic, s.freedom + o.freedom}
}

// tail is the probability of a statistic at least as large.
func (s shares) tail() float64 {
	if s.freedom <= 0 || s.statistic <= 0 {
		return 1
	}
	return upperGamma(float64(s.freedom)/2, s.statistic/2)
}

// upperGamma is the regularised upper incomplete gamma function Q(a, x): its power series below a+1, else its continued
// fraction by Lentz's method (Press et al., Numerical Recipes, 6.2).
func upperGamma(a, x float64) float64 {
	logGamma, _ := math.Lgamma(a)
	factor := math.Exp(-x + a*math.Log(x) - logGamma)
	if x < a+1 {
		term := 1 / a
		sum := term
		for n := a + 1; term > sum*1e-16; n++ {
			term *= x / n
			sum += term
		}
		return 1 - factor*sum
	}
	const tiny = 1e-300
	b := x + 1 - a
	c, d := 1/tiny, 1/b
	h := d
	for i := 1.0; i < 10000; i++ {
		an := -i * (i - a)
		b += 2
		if d = an*d + b; math.Abs(d) < tiny {
			d = tiny
		}
		if c = b + an/c; math.Abs(c) < tiny {
			c = tiny
		}
		d = 1 / d
		h *= d * c
		if math.Abs(d*c-1) < 1e-15 {
			break
		}
	}
	return factor * h
}

func TestTailOfChiSquare(t *testing.T) {
	for _, tc := range []struct {
		s    shares
		want float64
	}{
		// two degrees of freedom: exp(-x/2); one: erfc(sqrt(x/2)); published quantiles for the others
		{shares{2, 2}, math.Exp(-1)},
		{shares{60, 2}, math.Exp(-30)},
		{shares{3.841458820694124, 1}, 0.05},
		{shares{46, 1}, math.Erfc(math.Sqrt(23))},
		{shares{11.344866730144373, 3}, 0.01},
		{shares{149.44925277903886, 100}, 0.001},
		{shares{0, 4}, 1},
		{shares{1, 0}, 1},
	} {
		if got := tc.s.tail(); math.Abs(got-tc.want) > 1e-9*tc.want {
			t.Errorf("%+v: tail %g, want %g", tc.s, got, tc.want)
		}
	}
}

func TestChiSquareTellsWrongSharesFromRightOnes(t *testing.T) {
	half := []float64{0.5, 0.5}
	if p := chiSquare([]int{110, 90}, half).tail(); p < 0.1 {
		t.Errorf("110 and 90 of 200: tail %g", p)
	}
	if p := chiSquare([]int{160, 40}, half).tail(); p > rare {
		t.Errorf("160 and 40 of 200 under equal shares: tail %g", p)
	}
	// what one sample of 200 cannot tell, the sum over a lab can: 2/3 and 1/3 in the place of equal shares
	var sum shares
	for range 20 {
		sum = sum.add(chiSquare([]int{133, 67}, half))
	}
	if p := sum.tail(); p > rare {
		t.Errorf("2/3 and 1/3 in the place of equal shares, 20 times: tail %g", p)
	}
}
