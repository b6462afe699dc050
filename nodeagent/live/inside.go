//go:build linux

package live

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/rtnl"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// elsewhere is what Node.current says of a thread that is in a namespace which is not open.
const elsewhere = "elsewhere"

// In calls f with the thread in a namespace: sockets that f opens belong to it for good.
func (n *Node) In(ctx context.Context, id string, f func() error) error {
	if _, _, err := n.Namespace(ctx, id); err != nil {
		return err
	}
	if err := n.enter(id); err != nil {
		return err
	}
	return f()
}

// Having finds the namespace on this machine that has an address: Home when it has it, else the only other one, or of
// several the only one that a veth pair joins to Home. It returns ErrNotFound when there is none.
func (n *Node) Having(ctx context.Context, a netip.Addr) (string, error) {
	if err := n.enter(node.Home); err != nil {
		return "", err
	}
	has, err := hasAddress(ctx, n.count, a)
	if err != nil {
		return "", err
	}
	if has {
		return node.Home, nil
	}
	if err := n.find(); err != nil {
		return "", err
	}
	var found []string
	for inode := range n.byInode {
		has, err := n.visit(inode, func() (bool, error) { return hasAddress(ctx, n.count, a) })
		if err != nil {
			return "", err
		}
		if !has {
			continue
		}
		id, err := n.ID(inode)
		if err != nil {
			return "", err
		}
		found = append(found, id)
	}
	if len(found) > 1 {
		near, err := n.attached(ctx, found)
		if err != nil {
			return "", err
		}
		if len(near) == 1 {
			found = near
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("a network namespace with the address %s on this node: %w", a, node.ErrNotFound)
	case 1:
		return found[0], nil
	}
	slices.Sort(found)
	return "", fmt.Errorf("%d network namespaces on this node have the address %s: %v", len(found), a, found)
}

// attached picks those of some namespaces that a veth pair joins to Home.
func (n *Node) attached(ctx context.Context, ids []string) ([]string, error) {
	home, _, err := n.Namespace(ctx, node.Home)
	if err != nil {
		return nil, err
	}
	links, err := home.Links(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range links {
		if l.Peer == 0 || l.PeerNamespace < 0 {
			continue
		}
		id, err := n.byNumber(ctx, node.Home, l.PeerNamespace)
		if errors.Is(err, node.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if slices.Contains(ids, id) && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out, nil
}

// visit calls f with the thread in the namespace with an inode number. A namespace whose processes have ended has nothing.
func (n *Node) visit(inode uint64, f func() (bool, error)) (bool, error) {
	fd, err := n.openInode(inode)
	if err != nil {
		return false, nil
	}
	defer unix.Close(fd)
	if err := n.move(fd); err != nil {
		return false, nil // not ours to enter
	}
	n.current = elsewhere
	return f()
}

func hasAddress(ctx context.Context, count *nlsock.Counter, a netip.Addr) (bool, error) {
	r, err := rtnl.New(count)
	if err != nil {
		return false, err
	}
	defer r.Close()
	addrs, err := r.Addresses(ctx)
	return slices.ContainsFunc(addrs, func(x node.Address) bool { return x.Prefix.Addr() == a }), err
}
