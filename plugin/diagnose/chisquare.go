package diagnose

import "math"

// leastExpected is the number of connections that a bin must expect for the chi-square distribution to describe it.
const leastExpected = 5

// chiSquare holds counts against shares, which add up to 1, and returns the probability of a deviation as large as this or
// larger. Bins that expect little are put together; ok is false when fewer than two remain.
func chiSquare(counts []int, shares []float64) (p float64, ok bool) {
	total := 0
	for _, c := range counts {
		total += c
	}
	var (
		statistic                  float64
		bins                       int
		restCount                  int
		restExpected, lastExpected float64
		lastCount                  int
	)
	add := func(count int, expected float64) {
		d := float64(count) - expected
		statistic += d * d / expected
		bins++
	}
	for i, s := range shares {
		expected := s * float64(total)
		if expected < leastExpected {
			restCount += counts[i]
			restExpected += expected
			continue
		}
		if lastExpected > 0 { // the last large bin is kept back, for a rest that is too small to stand alone
			add(lastCount, lastExpected)
		}
		lastCount, lastExpected = counts[i], expected
	}
	switch {
	case restExpected >= leastExpected && lastExpected > 0:
		add(lastCount, lastExpected)
		add(restCount, restExpected)
	case lastExpected > 0:
		add(lastCount+restCount, lastExpected+restExpected)
	}
	if bins < 2 {
		return 1, false
	}
	return upperGamma(float64(bins-1)/2, statistic/2), true
}

// upperGamma is the regularised upper incomplete gamma function Q(a, x): the upper tail of the chi-square distribution
// with 2a degrees of freedom at 2x. The series and the continued fraction are those of Abramowitz and Stegun, 6.5.29 and
// 6.5.31.
func upperGamma(a, x float64) float64 {
	if x <= 0 {
		return 1
	}
	lg, _ := math.Lgamma(a)
	front := math.Exp(a*math.Log(x) - x - lg)
	if x < a+1 {
		sum, term := 1/a, 1/a
		for n := 1.0; n < 1000 && term > sum*1e-15; n++ {
			term *= x / (a + n)
			sum += term
		}
		return max(0, 1-front*sum)
	}
	const tiny = 1e-300
	b := x + 1 - a
	c, d := 1/tiny, 1/b
	h := d
	for n := 1.0; n < 1000; n++ {
		an := -n * (n - a)
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
	return front * h
}
