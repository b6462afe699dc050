//go:build linux

package rtnl

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/fib"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// ErrTooManyRoutes is in the chain of errors about routing tables that are larger than the caller allowed.
var ErrTooManyRoutes = errors.New("too many routes to read them all")

// liveRoutes is how many routes a live trace reads at most, where the kernel cannot be asked instead: some 20 MB, less
// than half a second. A router with full BGP tables has twenty times as many: such tables are for recordings only.
const liveRoutes = 50_000

// FIBState reads everything that takes part in routing decisions: all policy rules, and all routes of all tables. It fails
// with ErrTooManyRoutes when there are more than maxRoutes. The parts are read one after the other, so a change meanwhile
// can leave them inconsistent.
func (r *Reader) FIBState(ctx context.Context, maxRoutes int) (*fib.State, error) {
	s := &fib.State{}
	steps := []func() error{
		func() error { return r.fibInterfaces(ctx, s) },
		func() (err error) {
			s.Rules4, err = r.rules(ctx, unix.AF_INET)
			return err
		},
		func() (err error) {
			s.Rules6, err = r.rules(ctx, unix.AF_INET6)
			return err
		},
		func() error { return r.routes(ctx, s, maxRoutes) },
		func() error { return r.fibNeighbours(ctx, s) },
		func() error { return r.customRules(ctx, s) },
		func() error { return fibSysctls(s) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// lazyState is the state for questions of a live trace, read when the first is asked. An error is kept too.
func (r *Reader) lazyState(ctx context.Context) (*fib.State, error) {
	if r.fib == nil && r.fibErr == nil {
		r.fib, r.fibErr = r.FIBState(ctx, liveRoutes)
		if err := r.fibErr; err != nil && ctx.Err() != nil {
			r.fibErr = nil
			return nil, err
		}
	}
	return r.fib, r.fibErr
}

// FIBLookup answers from a model of the rules and tables, since rtnetlink refuses sources that are not this host's. It
// reads all rules and tables the first time, up to a bound.
func (r *Reader) FIBLookup(ctx context.Context, q node.FIBQuery) (node.Route, error) {
	s, err := r.lazyState(ctx)
	if err != nil {
		return node.Route{}, err
	}
	return s.FIBLookup(ctx, q)
}

// explain adds what the model takes for the cause of a refusal by the kernel, when the model refuses likewise.
func (r *Reader) explain(ctx context.Context, q node.RouteQuery, refused *node.RouteError) {
	s, err := r.lazyState(ctx)
	if err != nil {
		return
	}
	var same *node.RouteError
	if _, err := s.Route(ctx, q); errors.As(err, &same) && likewise(refused, same) {
		refused.Reason = same.Reason
	}
}

// likewise tells whether the model's refusal is the kernel's. Before Linux 6.12 the reverse path filter's was EXDEV, and the
// model has that of later kernels.
func likewise(kernel, model *node.RouteError) bool {
	return kernel.Number == model.Number || kernel.Number == int(unix.EXDEV) && model.Number == int(unix.EINVAL)
}

func (r *Reader) fibInterfaces(ctx context.Context, s *fib.State) error {
	links, err := r.Links(ctx)
	if err != nil {
		return err
	}
	addrs, err := r.Addresses(ctx)
	if err != nil {
		return err
	}
	byIndex := map[int]int{}
	vrfs := map[int]string{}
	for _, l := range links {
		if l.VRFTable != 0 {
			vrfs[l.Index] = l.Name
		}
		byIndex[l.Index] = len(s.Interfaces)
		s.Interfaces = append(s.Interfaces, fib.Interface{Name: l.Name, Index: l.Index, Flags: l.Flags, Group: l.Group, VRFTable: l.VRFTable})
	}
	for i, l := range links {
		s.Interfaces[i].Master = vrfs[l.Master]
	}
	for _, a := range addrs {
		i, ok := byIndex[a.Link]
		if !ok {
			return &node.ReadError{What: "interface addresses", Err: fmt.Errorf("interface %d: %w", a.Link, node.ErrNotFound)}
		}
		s.Interfaces[i].Addresses = append(s.Interfaces[i].Addresses, fib.Address{Prefix: a.Prefix, Peer: a.Peer, Scope: a.Scope, Flags: a.Flags})
	}
	return nil
}

// fibNeighbours notes the IPv6 neighbours that do not answer.
func (r *Reader) fibNeighbours(ctx context.Context, s *fib.State) error {
	list, err := r.dumpNeighbours(ctx, unix.AF_INET6)
	if err != nil {
		return &node.ReadError{What: "the neighbour table", Err: err}
	}
	for _, n := range list {
		if n.state&unix.NUD_FAILED == 0 || !n.dst.IsValid() {
			continue
		}
		dev, err := r.name(ctx, uint32(n.index))
		if err != nil {
			return &node.ReadError{What: "the neighbour table", Err: err}
		}
		s.Failed = append(s.Failed, fib.Neighbour{Dev: dev, Addr: n.dst})
	}
	return nil
}

// customRules notes whether the kernel still has the local table in the main one.
func (r *Reader) customRules(ctx context.Context, s *fib.State) error {
	s.CustomRules4 = !untouched(s.Rules4)
	merged, err := r.mergedTables(ctx)
	if err != nil || merged {
		s.CustomRules4 = false
		return err
	}
	// The answer is no too when lo is down, and such a namespace may be new.
	for _, l := range s.Interfaces {
		s.CustomRules4 = s.CustomRules4 || l.Loopback() && l.Up()
	}
	return nil
}

// untouched tells the rules that a namespace begins with.
func untouched(rules []fib.Rule) bool {
	tables := []uint32{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT}
	priorities := []uint32{0, 0x7ffe, 0x7fff}
	if len(rules) != len(tables) {
		return false
	}
	for i, r := range rules {
		if r.Priority != priorities[i] || r != (fib.Rule{Priority: r.Priority, Action: fib.ActionTable, Table: tables[i]}) {
			return false
		}
	}
	return true
}
