//go:build linux

package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/chainmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nft"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// shortChain is how many rules are read by netlink in any case: to read them in kernel memory would take longer.
const shortChain = 64

// Bounds of the rules that are asked for one by one. The kernel looks for each along the chain, so that with more than some
// of a hundred it is quicker to have it send all.
const (
	mostAsked   = 128
	someAsked   = 8
	askedOfRead = 32
)

// errMany says that too many rules would have to be asked for.
var errMany = errors.New("too many rules are left")

// NFTRulesFor returns the rules of one chain that a packet does not miss. Of a long chain they are chosen in kernel memory where
// that can be read (package chainmem), and asked for by their handles.
func (n *Namespace) NFTRulesFor(ctx context.Context, f node.NFTFamily, table, chain string, misses func(rule []byte) bool) (node.NFTRules, error) {
	if n.hooks != nil && n.memory.rulesErr == nil {
		short, err := n.nftTables.ShortRules(ctx, f, table, chain, shortChain)
		if !errors.Is(err, nft.ErrLong) {
			return node.NFTRules{Rules: short}, err
		}
		list, err := n.longChain(ctx, f, table, chain, misses)
		switch {
		case err == nil:
			return list, nil
		case ctx.Err() != nil:
			return node.NFTRules{}, err
		}
	}
	return n.nftTables.NFTRulesFor(ctx, f, table, chain, misses)
}

// inTable is a table of a family.
type inTable struct {
	family node.NFTFamily
	table  string
}

// asked is a rule that the kernel is to be asked for.
type asked struct {
	number  int
	handle  uint64
	message []byte // its beginning
}

// longChain chooses the rules of a chain in kernel memory. An error says why it could not be done.
func (n *Namespace) longChain(ctx context.Context, f node.NFTFamily, table, chain string, misses func(rule []byte) bool) (node.NFTRules, error) {
	out := node.NFTRules{Numbers: []int{}}
	m, err := n.memory.openRules()
	if err != nil {
		return out, err
	}
	in := inTable{f, table}
	address, err := m.Find(n.hooks.Network(), append(n.hooks.Chains(f, table), n.targets[in]...), chain)
	if err != nil {
		return out, err
	}
	var left []asked   // those that the packet may not miss
	var missed []asked // one of each shape of those that it misses
	shapes := map[string]bool{}
	var targets []uint64
	all := 0
	if err := m.Rules(n.hooks.Network(), address, func(r chainmem.Rule) error {
		all++
		if misses(r.Message) {
			if !shapes[string(r.Shape)] {
				shapes[string(r.Shape)] = true
				missed = append(missed, asked{r.Number, r.Handle, bytes.Clone(r.Message)})
			}
			return nil
		}
		if left = append(left, asked{r.Number, r.Handle, bytes.Clone(r.Message)}); len(left) > mostAsked {
			return errMany
		}
		to, err := m.Target(r)
		if err == nil && to != 0 {
			targets = append(targets, to)
		}
		return err
	}); err != nil {
		return out, err
	}
	if len(left)+len(missed) > someAsked+all/askedOfRead {
		return out, errMany
	}
	for _, a := range missed {
		raw, err := n.askRule(ctx, f, table, chain, a)
		if err != nil {
			return out, err
		}
		if !misses(raw) {
			return out, fmt.Errorf("%w: the kernel tells another rule %d", chainmem.ErrOdd, a.handle)
		}
	}
	for _, a := range left {
		raw, err := n.askRule(ctx, f, table, chain, a)
		if err != nil {
			return out, err
		}
		out.Rules, out.Numbers = append(out.Rules, raw), append(out.Numbers, a.number)
	}
	if n.targets == nil {
		n.targets = map[inTable][]uint64{}
	}
	n.targets[in] = append(n.targets[in], targets...)
	return out, nil
}

// askRule asks the kernel for a rule, which has to begin as it does in memory.
func (n *Namespace) askRule(ctx context.Context, f node.NFTFamily, table, chain string, a asked) ([]byte, error) {
	raw, err := n.nftTables.Rule(ctx, f, table, chain, a.handle)
	if err == nil && !chainmem.Begins(raw, a.message) {
		err = fmt.Errorf("%w: rule %d begins otherwise", chainmem.ErrOdd, a.handle)
		n.memory.rulesErr = err
	}
	return raw, err
}
