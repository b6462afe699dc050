package diagnose

import (
	"fmt"
	"math/big"
)

// Fraction writes a probability for people. The iptables statistic match counts in steps of 1/2^31, so a third is really
// 715827883/2147483648 there; such a number is written as the simple fraction it is meant to be.
func Fraction(p *big.Rat) string {
	if p == nil {
		return "?"
	}
	if p.Denom().BitLen() <= 14 {
		return p.RatString()
	}
	for d := int64(2); d <= 4096; d++ {
		n, _ := new(big.Rat).Mul(p, new(big.Rat).SetInt64(d)).Float64()
		near := new(big.Rat).SetFrac64(int64(n+0.5), d)
		if near.Sign() > 0 && about(p, near) {
			return near.RatString()
		}
	}
	f, _ := p.Float64()
	return fmt.Sprintf("%.4g %%", f*100)
}

// tolerance is what the rounding of chained statistic rules can add up to over some thousand endpoints.
var tolerance = big.NewRat(1, 1_000_000)

func about(a, b *big.Rat) bool {
	d := new(big.Rat).Sub(a, b)
	return d.Abs(d).Cmp(tolerance) <= 0
}

// Even reports whether all shares have the same probability, as nearly as the kernel's own rounding lets them.
func Even(shares []KernelShare) bool {
	for _, s := range shares {
		if s.Probability == nil || !about(s.Probability, shares[0].Probability) {
			return false
		}
	}
	return true
}
