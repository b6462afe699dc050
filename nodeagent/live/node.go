//go:build linux

package live

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// maxFiles bounds how many files are remembered for one namespace.
const maxFiles = 8

// Node opens the network namespaces of this machine that a process or a name under /run/netns keeps.
//
// A network namespace's /proc files and socket options belong to the thread, so a Node moves the thread it was opened on
// from namespace to namespace, and locks the goroutine to it before it leaves the first. Until then it needs no thread of its
// own, as long as all threads that the goroutine may run on are in the same namespace; a caller that has moved its thread has
// locked it. It is used and closed by the goroutine that opened it.
type Node struct {
	count   *nlsock.Counter
	memory  *memory
	home    int    // file descriptor of the namespace at the start
	locked  bool   // the goroutine is locked to its thread
	current string // id of the namespace the thread is in
	open    map[string]*entered
	// byInode are files that open the namespaces, by inode, once they were looked for: several each, since a process may end.
	byInode map[uint64][]string
}

var _ node.Node = (*Node)(nil)

// Option changes how a Node or a Namespace reads.
type Option func(*memory)

// WithoutBPF keeps it from reading kernel memory: which hook functions are registered is then derived from tables and
// chains (see node.Hooks), and flows are chosen by netlink alone (see Namespace.FlowsTo).
func WithoutBPF() Option { return func(m *memory) { m.err = errOff } }

// OpenNode opens the calling thread's network namespace as Home. Close gives the thread back, if it took it.
func OpenNode(options ...Option) (*Node, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &node.ReadError{What: "the network namespace", Err: err}
	}
	count := &nlsock.Counter{}
	n := &Node{count: count, memory: &memory{count: count}, home: fd, open: map[string]*entered{}}
	for _, o := range options {
		o(n.memory)
	}
	return n, nil
}

// Close closes all namespaces and returns the thread to the first.
func (n *Node) Close() error {
	errs := []error{n.enter(node.Home)}
	for _, e := range n.open {
		errs = append(errs, e.ns.Close())
		if e.fd != n.home {
			errs = append(errs, unix.Close(e.fd))
		}
	}
	errs = append(errs, n.memory.close(), unix.Close(n.home))
	err := errors.Join(errs...)
	if n.locked && errs[0] == nil {
		// A thread that could not return stays locked, and ends with its goroutine.
		runtime.UnlockOSThread()
	}
	return err
}

// Reads tells how many messages and bytes were read so far.
func (n *Node) Reads() (messages int, bytes int64) { return n.count.Messages, n.count.Bytes }

// enter moves the thread into a namespace that is open.
func (n *Node) enter(id string) error {
	if id == n.current {
		return nil
	}
	fd := n.home
	if id != node.Home {
		fd = n.open[id].fd
	}
	if err := n.move(fd); err != nil {
		e := &node.ReadError{What: "the network namespace " + id, Err: err}
		if errors.Is(err, unix.EPERM) {
			e.Needs, e.Err = "CAP_SYS_ADMIN", node.ErrPermission
		}
		return e
	}
	n.current = id
	return nil
}

// move moves the thread.
func (n *Node) move(fd int) error {
	if !n.locked {
		runtime.LockOSThread()
		n.locked = true
	}
	return unix.Setns(fd, unix.CLONE_NEWNET)
}

// Namespace opens a namespace by its id: Home, or the inode number of its file.
func (n *Node) Namespace(ctx context.Context, id string) (node.Namespace, string, error) {
	if e, ok := n.open[id]; ok {
		return e, e.label, nil
	}
	e := &entered{n: n, id: id, fd: n.home, label: "host"}
	if id != node.Home {
		inode, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return nil, "", fmt.Errorf("network namespace %q: %w", id, node.ErrNotFound)
		}
		if e.fd, err = n.openInode(inode); err != nil {
			return nil, "", &node.ReadError{What: "the network namespace " + id, Err: err}
		}
	}
	n.open[id] = e
	if err := n.enter(id); err != nil {
		return nil, "", err
	}
	var err error
	if e.ns, err = open(n.count, n.memory); err != nil {
		delete(n.open, id)
		return nil, "", &node.ReadError{What: "the network namespace " + id, Err: err}
	}
	if id != node.Home {
		if e.label, err = e.name(ctx); err != nil {
			return nil, "", err
		}
	}
	return e, e.label, nil
}

// openInode opens the namespace with an inode number by the first file that still does.
func (n *Node) openInode(inode uint64) (int, error) {
	var home unix.Stat_t
	if err := unix.Fstat(n.home, &home); err == nil && home.Ino == inode {
		return unix.Dup(n.home)
	}
	if err := n.find(); err != nil {
		return -1, err
	}
	for _, file := range n.byInode[inode] {
		fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // its process has ended
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Ino == inode {
			return fd, nil
		}
		unix.Close(fd) // another process has its number now
	}
	return -1, node.ErrNotFound
}

// name names a namespace after its first address that is not loopback's.
func (e *entered) name(ctx context.Context) (string, error) {
	addrs, err := e.Addresses(ctx)
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		ip := a.Prefix.Addr()
		if !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			return "netns of " + ip.String(), nil
		}
	}
	return "netns " + e.id, nil
}

// Peer finds the namespace at the other end of a veth pair.
func (n *Node) Peer(ctx context.Context, id string, veth node.Link) (peer, name string, err error) {
	peer = id
	if veth.PeerNamespace >= 0 {
		if peer, err = n.byNumber(ctx, id, veth.PeerNamespace); err != nil {
			return "", "", err
		}
	}
	there, _, err := n.Namespace(ctx, peer)
	if err != nil {
		return "", "", err
	}
	links, err := there.Links(ctx)
	if err != nil {
		return "", "", err
	}
	for _, l := range links {
		if l.Index == veth.Peer {
			return peer, l.Name, nil
		}
	}
	return "", "", fmt.Errorf("the other end of %s: %w", veth.Name, node.ErrNotFound)
}

// byNumber finds the namespace that has a number (NSID) in namespace id.
func (n *Node) byNumber(ctx context.Context, id string, number int32) (string, error) {
	if err := n.enter(id); err != nil {
		return "", err
	}
	s, err := nlsock.Open(unix.NETLINK_ROUTE, n.count)
	if err != nil {
		return "", err
	}
	defer s.Close()
	// The namespace at the start is the likely one, and needs no file.
	if got, err := numberOf(ctx, s, n.home); err != nil {
		return "", &node.ReadError{What: "the number of a network namespace", Err: err}
	} else if got == number {
		return node.Home, nil
	}
	if err := n.find(); err != nil {
		return "", err
	}
	for inode := range n.byInode {
		fd, err := n.openInode(inode)
		if err != nil {
			continue // its processes have ended
		}
		got, err := numberOf(ctx, s, fd)
		unix.Close(fd)
		if err != nil {
			return "", &node.ReadError{What: "the number of a network namespace", Err: err}
		}
		if got == number {
			return n.ID(inode)
		}
	}
	return "", fmt.Errorf("the network namespace with number %d: %w", number, node.ErrNotFound)
}

// ID is the id of a namespace, by the inode of its file.
func (n *Node) ID(inode uint64) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.home, &st); err != nil {
		return "", &node.ReadError{What: "the network namespace", Err: err}
	}
	if st.Ino == inode {
		return node.Home, nil
	}
	return strconv.FormatUint(inode, 10), nil
}

// numberOf asks which number a namespace has in the socket's (RTM_GETNSID); -1 when it has none.
func numberOf(ctx context.Context, s *nlsock.Socket, fd int) (int32, error) {
	const (
		netnsaNSID = 1
		netnsaFD   = 3
	)
	body := nlattr.Append([]byte{unix.AF_UNSPEC, 0, 0, 0}, netnsaFD, nlattr.Uint32(uint32(fd)))
	number := int32(-1)
	err := s.Do(ctx, unix.RTM_GETNSID, 0, body, func(m nlsock.Message) error {
		if len(m.Data) < 4 {
			return errors.New("a short namespace message")
		}
		return nlattr.Each(m.Data[4:], func(typ uint16, b []byte) error {
			if typ == netnsaNSID && len(b) >= 4 {
				number = int32(binary.NativeEndian.Uint32(b))
			}
			return nil
		})
	})
	return number, err
}

// find lists a file for each network namespace that a process or a name keeps.
func (n *Node) find() error {
	if n.byInode != nil {
		return nil
	}
	n.byInode = map[uint64][]string{}
	for _, pattern := range []string{"/run/netns/*", "/var/run/netns/*", "/proc/1/root/run/netns/*", "/proc/[0-9]*/ns/net"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				continue // its process has ended, or is not ours to see
			}
			st, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				continue
			}
			if len(n.byInode[st.Ino]) < maxFiles {
				n.byInode[st.Ino] = append(n.byInode[st.Ino], f)
			}
		}
	}
	return nil
}

// Serves names the process that owns a listening socket of a namespace, as "pid 812 /server"; "" when none is found.
func (n *Node) Serves(id string, inode uint64) string {
	return ownerOf(inode, func(proc string) bool { return id == node.Home || n.in(proc, id) })
}

func (n *Node) in(proc, id string) bool {
	to, err := os.Readlink(proc + "/ns/net")
	return err == nil && to == "net:["+id+"]"
}
