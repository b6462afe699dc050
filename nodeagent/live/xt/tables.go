//go:build linux

// Package xt reads legacy iptables tables, recent lists, ipsets and nfacct objects from the running kernel.
//
// Everything is read in the calling thread's network namespace, and nothing is written: a table that the namespace never
// used is not asked for, because asking would create it.
package xt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Socket options of include/uapi/linux/netfilter_ipv4/ip_tables.h (and ip6_tables.h, with the same numbers).
const (
	soGetInfo    = 64 // IPT_SO_GET_INFO
	soGetEntries = 65 // IPT_SO_GET_ENTRIES
	getinfoSize  = 84 // struct ipt_getinfo
	nameSize     = 32 // XT_TABLE_MAXNAMELEN
	entriesHead  = 40 // struct ipt_get_entries up to the entries
)

// maxTable bounds a table's size in bytes: 8 times what 10,000 Services take.
const maxTable = 1536 << 20

// Reader reads xtables state. It must be used from the thread that is in the namespace; it is not safe for concurrent use.
type Reader struct {
	// Count counts what was read; nil counts nothing.
	Count *nlsock.Counter

	netlink       *nlsock.Socket
	ipsetProtocol uint8
}

// New returns a reader for the calling thread's network namespace. Close it.
func New(count *nlsock.Counter) *Reader { return &Reader{Count: count} }

// Close closes the reader's sockets.
func (r *Reader) Close() error {
	if r.netlink == nil {
		return nil
	}
	err := r.netlink.Close()
	r.netlink = nil
	return err
}

// namesFiles list the tables that exist in the namespace.
var namesFiles = map[skb.Family]string{
	skb.IPv4: "/proc/thread-self/net/ip_tables_names",
	skb.IPv6: "/proc/thread-self/net/ip6_tables_names",
}

// LegacyTables lists the legacy tables that exist in the namespace. None exist when the kernel has no legacy iptables.
func (r *Reader) LegacyTables(_ context.Context, f skb.Family) ([]string, error) {
	file, ok := namesFiles[f]
	if !ok {
		return nil, fmt.Errorf("%s has no legacy tables", f)
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, readError("the names of legacy iptables tables", "", err)
	}
	r.Count.Add(len(b))
	return strings.Fields(string(b)), nil
}

// LegacyTable reads a table: struct ipt_getinfo and the entries. It returns node.ErrNotFound for a table that does not
// exist in the namespace. A table that changes while it is read is read again.
func (r *Reader) LegacyTable(ctx context.Context, f skb.Family, table string) (info, entries []byte, err error) {
	what := fmt.Sprintf("the legacy %s table %s", f, table)
	names, err := r.LegacyTables(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	exists := false
	for _, n := range names {
		exists = exists || n == table
	}
	if !exists || len(table) >= nameSize {
		return nil, nil, readError(what, "", node.ErrNotFound)
	}
	domain, level := unix.AF_INET, unix.SOL_IP
	if f == skb.IPv6 {
		domain, level = unix.AF_INET6, unix.SOL_IPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, nil, readError(what, "CAP_NET_RAW", err)
	}
	defer unix.Close(fd)
	// GET_ENTRIES fails with EAGAIN when the size is not (or no longer) the one that GET_INFO told.
	for range 20 {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		info, entries, err = getEntries(fd, level, table)
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	if err != nil {
		return nil, nil, readError(what, "CAP_NET_ADMIN", err)
	}
	r.Count.Add(len(info))
	r.Count.Add(len(entries))
	return info, entries, nil
}

func getEntries(fd, level int, table string) (info, entries []byte, err error) {
	info = make([]byte, getinfoSize)
	copy(info[:nameSize-1], table)
	if _, err := getsockopt(fd, level, soGetInfo, info); err != nil {
		return nil, nil, err
	}
	size := binary.NativeEndian.Uint32(info[80:])
	if size > maxTable {
		return nil, nil, fmt.Errorf("a table of %d bytes", size)
	}
	buf := make([]byte, entriesHead+int(size))
	copy(buf[:nameSize-1], table)
	binary.NativeEndian.PutUint32(buf[nameSize:], size)
	n, err := getsockopt(fd, level, soGetEntries, buf)
	if err != nil {
		return nil, nil, err
	}
	if n != len(buf) {
		return nil, nil, fmt.Errorf("the kernel gave %d bytes of %d", n, len(buf))
	}
	// The size told apart from the rules may be the same after a change that moved chains: ask again.
	after := make([]byte, getinfoSize)
	copy(after[:nameSize-1], table)
	if _, err := getsockopt(fd, level, soGetInfo, after); err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(info, after) {
		return nil, nil, unix.EAGAIN
	}
	return info, buf[entriesHead:], nil
}

func getsockopt(fd, level, name int, buf []byte) (int, error) {
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
	runtime.KeepAlive(buf)
	if errno != 0 {
		return 0, errno
	}
	return int(size), nil
}

// readError says what could not be read; needs is the capability to name when permission was denied.
func readError(what, needs string, err error) error {
	e := &node.ReadError{What: what, Err: err}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		e.Needs, e.Err = needs, fmt.Errorf("%w: %w", node.ErrPermission, err)
	}
	return e
}
