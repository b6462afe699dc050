//go:build linux

// Package live answers the walker's questions from the running kernel, in the calling thread's network namespace.
package live

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/cgprog"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/ctnl"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/devprog"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/hooklist"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nft"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/procfile"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/rtnl"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/sockdiag"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/wgnl"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xfrmnl"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Namespace is the state of one network namespace, read as it is asked for. What costs little and is asked often
// (interfaces, addresses) is read once: open a new one for each trace. It is not safe for concurrent use.
type Namespace struct {
	*links
	*conns
	*socks
	*tables
	*nftTables
	*programs
	*wireGuards
	*policies
	count  *nlsock.Counter
	memory *memory
	hooks  *hooklist.Reader // once it was asked for
	// targets are chains that long chains led to, by their addresses in kernel memory.
	targets map[inTable][]uint64
	// sysctls are the values that were read, by their names.
	sysctls map[string]string
	// ownsMemory is true for a namespace without a node.
	ownsMemory bool
}

// The readers, under names that keep their Close methods apart.
type (
	links     struct{ *rtnl.Reader }
	conns     struct{ *ctnl.Reader }
	socks     struct{ *sockdiag.Reader }
	tables    struct{ *xt.Reader }
	nftTables struct{ *nft.Reader }
	programs  struct{ *devprog.Reader }
	policies  struct{ *xfrmnl.Reader }
	// wireGuards is opened when it is first asked: few nodes have such an interface.
	wireGuards struct {
		count  *nlsock.Counter
		reader *wgnl.Reader
	}
)

var _ node.Namespace = (*Namespace)(nil)

// Open opens the calling thread's network namespace. The caller closes it.
func Open(options ...Option) (*Namespace, error) {
	count := &nlsock.Counter{}
	m := &memory{count: count}
	for _, o := range options {
		o(m)
	}
	n, err := open(count, m)
	if err == nil {
		n.ownsMemory = true
	}
	return n, err
}

func open(count *nlsock.Counter, m *memory) (*Namespace, error) {
	n := &Namespace{count: count, memory: m}
	r, err := rtnl.New(n.count)
	if err != nil {
		return nil, err
	}
	n.links = &links{r}
	c, err := ctnl.New(n.count)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.conns = &conns{c}
	s, err := sockdiag.New(n.count)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.socks = &socks{s}
	n.tables = &tables{xt.New(n.count)}
	f, err := nft.New(n.count)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.nftTables = &nftTables{f}
	d, err := devprog.New(n.count)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.programs = &programs{d}
	n.wireGuards = &wireGuards{count: n.count}
	n.policies = &policies{xfrmnl.New(n.count)}
	return n, nil
}

// Close closes all sockets.
func (n *Namespace) Close() error {
	var errs []error
	if n.links != nil {
		errs = append(errs, n.links.Close())
	}
	if n.conns != nil {
		errs = append(errs, n.conns.Close())
	}
	if n.socks != nil {
		errs = append(errs, n.socks.Close())
	}
	if n.tables != nil {
		errs = append(errs, n.tables.Close())
	}
	if n.nftTables != nil {
		errs = append(errs, n.nftTables.Close())
	}
	if n.programs != nil {
		errs = append(errs, n.programs.Close())
	}
	if n.wireGuards != nil && n.wireGuards.reader != nil {
		errs = append(errs, n.wireGuards.reader.Close())
	}
	if n.ownsMemory {
		errs = append(errs, n.memory.close())
	}
	return errors.Join(errs...)
}

// WireGuard reads a WireGuard interface.
func (w *wireGuards) WireGuard(ctx context.Context, link int) (node.WireGuardDevice, error) {
	if w.reader == nil {
		r, err := wgnl.New(w.count)
		if err != nil {
			return node.WireGuardDevice{}, err
		}
		w.reader = r
	}
	return w.reader.WireGuard(ctx, link)
}

// SocketPrograms asks about this process's control group.
func (n *Namespace) SocketPrograms(_ context.Context, do node.SocketDoes, f skb.Family, proto uint8) ([]string, error) {
	return cgprog.Programs(do, f, proto)
}

// Reads tells how many messages and bytes were read so far.
func (n *Namespace) Reads() (messages int, bytes int64) { return n.count.Messages, n.count.Bytes }

// Sysctl reads a value under /proc/sys of the namespace. A value is read once.
func (n *Namespace) Sysctl(_ context.Context, name string) (string, error) {
	if v, ok := n.sysctls[name]; ok {
		return v, nil
	}
	if strings.Contains(name, "..") {
		return "", fmt.Errorf("sysctl %q is not a name", name)
	}
	b, err := procfile.Read("/proc/sys/" + name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("sysctl %s: %w", name, node.ErrNotFound)
	case err != nil:
		return "", &node.ReadError{What: "sysctl " + name, Err: err}
	}
	n.count.Add(len(b))
	v := strings.TrimSpace(string(b))
	if n.sysctls == nil {
		n.sysctls = map[string]string{}
	}
	n.sysctls[name] = v
	return v, nil
}
