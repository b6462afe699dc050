package nftables

// Last notes when a packet last passed (net/netfilter/nft_last.c).
type Last struct {
	// Set tells that one has passed, MillisAgo when.
	Set       bool
	MillisAgo uint64
}

func decodeLast(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(2)
	if err != nil {
		return nil, err
	}
	return &Last{Set: t.u32(1) != 0, MillisAgo: t.u64(2)}, nil
}

// Name returns last.
func (x *Last) Name() string { return "last" }

func (x *Last) effect() bool { return false }

func (x *Last) eval(*state) (bool, error) { return true, nil }
