//go:build linux

package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/ctnl"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nft"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// place is a network namespace that the connections pass.
type place struct {
	id, label string
	rules     *nft.Reader
	conns     *ctnl.Reader
	// watch receives trace events; nil where there are none to have.
	watch *watch
}

// openPlace opens what is read in a namespace.
func openPlace(ctx context.Context, n *live.Node, id string) (*place, error) {
	p := &place{id: id}
	var err error
	if _, p.label, err = n.Namespace(ctx, id); err != nil {
		return nil, err
	}
	err = n.In(ctx, id, func() error {
		var err error
		if p.rules, err = nft.New(nil); err != nil {
			return err
		}
		p.conns, err = ctnl.New(nil)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// close closes everything; the trace rules go with their socket.
func (p *place) close() error {
	var errs []error
	if p.watch != nil {
		errs = append(errs, p.watch.close())
	}
	if p.rules != nil {
		errs = append(errs, p.rules.Close())
	}
	if p.conns != nil {
		errs = append(errs, p.conns.Close())
	}
	return errors.Join(errs...)
}

// client finds the namespace that a client's address is in. Without an address it is the node's, with the address that
// it would choose towards dst.
func client(ctx context.Context, n *live.Node, t target) (id string, source netip.Addr, err error) {
	if t.source.IsValid() {
		id, err = n.Having(ctx, t.source)
		if errors.Is(err, node.ErrNotFound) {
			err = fmt.Errorf("%w: %w", ErrRequest, err)
		}
		return id, t.source, err
	}
	ns, _, err := n.Namespace(ctx, node.Home)
	if err != nil {
		return "", netip.Addr{}, err
	}
	r, err := ns.Route(ctx, node.RouteQuery{Dst: t.dst.Addr(), Proto: t.proto, DstPort: t.dst.Port()})
	if err != nil {
		return "", netip.Addr{}, fmt.Errorf("%w: no source address towards %s: %w", ErrRequest, t.dst.Addr(), err)
	}
	if !r.PrefSrc.IsValid() {
		return "", netip.Addr{}, fmt.Errorf("%w: the route to %s gives no source address", ErrRequest, t.dst.Addr())
	}
	return node.Home, r.PrefSrc, nil
}
