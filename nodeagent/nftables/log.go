package nftables

// Log writes a packet to the kernel's log or to a program (net/netfilter/nft_log.c).
type Log struct {
	Prefix string
	// HasGroup tells that it goes to group Group of nfnetlink_log.
	HasGroup          bool
	Group             uint16
	Snaplen           uint32
	Threshold         uint16
	Level             uint32
	HasLevel          bool
	Flags             uint32
	hasSnap, hasQueue bool
}

func decodeLog(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(6)
	if err != nil {
		return nil, err
	}
	return &Log{
		Prefix: t.str(2), HasGroup: t.has(1), Group: t.u16(1), Snaplen: t.u32(3), hasSnap: t.has(3), Threshold: t.u16(4),
		hasQueue: t.has(4), Level: t.u32(5), HasLevel: t.has(5), Flags: t.u32(6),
	}, nil
}

// Name returns log.
func (x *Log) Name() string { return "log" }

func (x *Log) effect() bool { return false }

func (x *Log) eval(*state) (bool, error) { return true, nil }
