package nftables

import "fmt"

// Connlimit counts the connections that pass it (net/netfilter/nft_connlimit.c).
type Connlimit struct {
	Count uint32
	// Inverted matches when there are more ("ct count over").
	Inverted bool
}

func decodeConnlimit(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(2)
	if err != nil {
		return nil, err
	}
	return &Connlimit{Count: t.u32(1), Inverted: t.u32(2)&1 != 0}, nil
}

// Name returns connlimit.
func (x *Connlimit) Name() string { return "connlimit" }

func (x *Connlimit) effect() bool { return false }

// eval forks: the kernel does not tell which connections it has counted.
func (x *Connlimit) eval(st *state) (bool, error) {
	over := st.depends(fmt.Sprintf("more than %d connections are counted", x.Count))
	return over == x.Inverted && !st.stopped, nil
}
