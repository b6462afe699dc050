package nftables

import "fmt"

// Limit lets packets pass up to a rate (net/netfilter/nft_limit.c).
type Limit struct {
	// Rate packets, or bytes when Bytes, per Unit seconds, with Burst more.
	Rate, Unit uint64
	Burst      uint32
	Bytes      bool
	// Inverted matches what is over the rate.
	Inverted bool
}

func decodeLimit(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(5)
	if err != nil {
		return nil, err
	}
	return &Limit{Rate: t.u64(1), Unit: t.u64(2), Burst: t.u32(3), Bytes: t.u32(4) == 1, Inverted: t.u32(5)&1 != 0}, nil
}

// Name returns limit.
func (x *Limit) Name() string { return "limit" }

func (x *Limit) effect() bool { return false }

// eval forks: the kernel does not tell how many tokens are left.
func (x *Limit) eval(st *state) (bool, error) {
	within := st.depends(fmt.Sprintf("rate limit %s not exceeded", x.rate()))
	return within != x.Inverted && !st.stopped, nil
}

// rate is the rate as nft prints it.
func (x *Limit) rate() string {
	unit := fmt.Sprint(x.Unit, " seconds")
	switch x.Unit {
	case 1:
		unit = "second"
	case 60:
		unit = "minute"
	case 3600:
		unit = "hour"
	case 86400:
		unit = "day"
	case 604800:
		unit = "week"
	}
	if x.Bytes {
		n, name := byteUnit(x.Rate)
		return fmt.Sprintf("%d %s/%s", n, name, unit)
	}
	return fmt.Sprintf("%d/%s", x.Rate, unit)
}

// byteUnit is a number of bytes in the largest unit that divides it, as nft chooses it for limits.
func byteUnit(n uint64) (uint64, string) {
	switch {
	case n > 0 && n%(1<<20) == 0:
		return n >> 20, "mbytes"
	case n > 0 && n%(1<<10) == 0:
		return n >> 10, "kbytes"
	}
	return n, "bytes"
}
