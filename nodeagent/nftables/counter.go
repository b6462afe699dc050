package nftables

// Counter counts packets and bytes (net/netfilter/nft_counter.c).
type Counter struct{ Packets, Bytes uint64 }

func decodeCounter(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(2)
	if err != nil {
		return nil, err
	}
	return &Counter{Bytes: t.u64(1), Packets: t.u64(2)}, nil
}

// Name returns counter.
func (x *Counter) Name() string { return "counter" }

func (x *Counter) effect() bool { return false }

func (x *Counter) eval(*state) (bool, error) { return true, nil }
