//go:build linux

package live

import (
	"context"
	"errors"
	"fmt"

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
}

// errOff says that the reader was told not to use BPF.
var errOff = fmt.Errorf("reading kernel memory is switched off: %w", node.ErrNotSupported)

func (m *memory) open() (*kmem.Reader, error) {
	if m.reader == nil && m.err == nil {
		m.reader, m.err = kmem.Open(m.count)
	}
	return m.reader, m.err
}

func (m *memory) close() error {
	if m == nil || m.reader == nil {
		return nil
	}
	r := m.reader
	m.reader, m.err = nil, errors.New("closed")
	return r.Close()
}

// hookTries is how often the kernel's lists are read again when they do not add up.
const hookTries = 3

// Hooks lists what is registered at the netfilter hooks of a family.
func (n *Namespace) Hooks(_ context.Context, f node.NFTFamily) ([][]node.HookFunction, error) {
	m, err := n.memory.open()
	if err != nil {
		return nil, err
	}
	for range hookTries {
		if n.hooks == nil {
			if n.hooks, err = hooklist.New(m); err != nil {
				break
			}
		}
		var out [][]node.HookFunction
		if out, err = n.hooks.Hooks(f); err == nil {
			return out, nil
		}
		if !errors.Is(err, hooklist.ErrOdd) && !errors.Is(err, kmem.ErrFault) {
			break
		}
	}
	return nil, &node.ReadError{What: fmt.Sprintf("the netfilter hooks of family %s", f), Err: fmt.Errorf("%w: %w", node.ErrNotSupported, err)}
}

// SameHooks tells whether the lists that Hooks read are the same still.
func (n *Namespace) SameHooks(context.Context) (bool, error) {
	if n.hooks == nil {
		return true, nil
	}
	return n.hooks.Same()
}
