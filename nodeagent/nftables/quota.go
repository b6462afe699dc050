package nftables

import "fmt"

// Quota lets packets pass until a number of bytes has been used up (net/netfilter/nft_quota.c).
type Quota struct {
	Bytes, Consumed uint64
	// Inverted matches once it is used up ("quota over").
	Inverted bool
}

// largestPacket is more than any packet is long, aggregated ones included (GSO_MAX_SIZE of a BIG TCP device).
const largestPacket = 8 * 65535

func decodeQuota(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(4)
	if err != nil {
		return nil, err
	}
	return &Quota{Bytes: t.u64(1), Inverted: t.u32(2)&1 != 0, Consumed: t.u64(4)}, nil
}

// Name returns quota.
func (x *Quota) Name() string { return "quota" }

func (x *Quota) effect() bool { return false }

// eval decides while the packet's length does not matter: it is over when Consumed with this packet reaches Bytes.
func (x *Quota) eval(st *state) (bool, error) {
	over := maybe
	switch {
	case x.Consumed >= x.Bytes:
		over = yes
	case x.Bytes-x.Consumed > largestPacket:
		over = no
	}
	used := st.decide(over, fmt.Sprintf("the packet uses up the last %d bytes of a quota of %d", x.Bytes-min(x.Consumed, x.Bytes), x.Bytes))
	return used == x.Inverted && !st.stopped, nil
}
