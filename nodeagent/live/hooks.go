//go:build linux

package live

import (
	"context"
	"errors"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/chainmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/cthash"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/hooklist"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/kmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// memory is the reader of kernel memory that namespaces share. It is opened when one asks for it.
type memory struct {
	count  *nlsock.Counter
	reader *kmem.Reader
	// err says why there is none, once it was tried.
	err error
	// table walks through the connection tracking table, once it was asked for; tableErr says why there is none.
	table    *cthash.Reader
	tableErr error
	// rules reads long chains, once it was asked for; rulesErr says why there is none, or why it is not used any more.
	rules    *chainmem.Reader
	rulesErr error
}

// errOff says that the reader was told not to use BPF.
var errOff = fmt.Errorf("reading kernel memory is switched off: %w", node.ErrNotSupported)

func (m *memory) open() (*kmem.Reader, error) {
	if m.reader == nil && m.err == nil {
		m.reader, m.err = kmem.Open(m.count)
	}
	return m.reader, m.err
}

func (m *memory) openTable() (*cthash.Reader, error) {
	r, err := m.open()
	if err != nil {
		return nil, err
	}
	if m.table == nil && m.tableErr == nil {
		m.table, m.tableErr = cthash.New(r, m.count)
	}
	return m.table, m.tableErr
}

func (m *memory) openRules() (*chainmem.Reader, error) {
	r, err := m.open()
	if err != nil {
		return nil, err
	}
	if m.rules == nil && m.rulesErr == nil {
		m.rules, m.rulesErr = chainmem.New(r, m.count)
	}
	return m.rules, m.rulesErr
}

func (m *memory) close() error {
	if m == nil || m.reader == nil {
		return nil
	}
	var errs []error
	if m.table != nil {
		errs = append(errs, m.table.Close())
	}
	if m.rules != nil {
		errs = append(errs, m.rules.Close())
	}
	errs = append(errs, m.reader.Close())
	m.reader, m.table, m.rules, m.err = nil, nil, nil, errors.New("closed")
	return errors.Join(errs...)
}

// hookTries is how often the kernel's lists are read again when they do not add up.
const hookTries = 3

// Hooks lists what is registered at the netfilter hooks of a family.
func (n *Namespace) Hooks(_ context.Context, f node.NFTFamily) (out [][]node.HookFunction, err error) {
	err = n.readHooks(fmt.Sprintf("the netfilter hooks of family %s", f), func(r *hooklist.Reader) (err error) {
		out, err = r.Hooks(f)
		return err
	})
	return out, err
}

// DeviceHooks lists what is registered at a hook of a device.
func (n *Namespace) DeviceHooks(_ context.Context, index int, egress bool) (out []node.HookFunction, err error) {
	err = n.readHooks(fmt.Sprintf("the netfilter hooks of interface %d", index), func(r *hooklist.Reader) (err error) {
		out, err = r.Device(index, egress)
		return err
	})
	return out, err
}

// readHooks reads lists, again when they do not add up.
func (n *Namespace) readHooks(what string, read func(*hooklist.Reader) error) error {
	m, err := n.memory.open()
	if err != nil {
		return err
	}
	for range hookTries {
		if n.hooks == nil {
			if n.hooks, err = hooklist.New(m); err != nil {
				break
			}
		}
		if err = read(n.hooks); !errors.Is(err, hooklist.ErrOdd) && !errors.Is(err, kmem.ErrFault) {
			break
		}
	}
	if err != nil {
		return &node.ReadError{What: what, Err: fmt.Errorf("%w: %w", node.ErrNotSupported, err)}
	}
	return nil
}

// SameHooks tells whether the lists that were read are the same still.
func (n *Namespace) SameHooks(context.Context) (bool, error) {
	if n.hooks == nil {
		return true, nil
	}
	return n.hooks.Same()
}
