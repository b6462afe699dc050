//go:build linux

// Package cthash chooses entries of the kernel's connection tracking table where BPF is allowed: it walks through the hash
// table in kernel memory, and tells the tuples of those entries that are asked for. What it tells is whom to ask about; what
// is true of an entry netlink says.
//
//	nf_conntrack_hash[bucket] ─ nf_conn.tuplehash[direction] ─ … ─ the bucket's number, where other lists have NULL
//
// (include/net/netfilter/nf_conntrack.h, net/netfilter/nf_conntrack_core.c, include/linux/list_nulls.h.)
//
// # What is not missed
//
// An entry that is there throughout is found. Entries come to the head of a chain, so that behind an entry lie older ones. One
// that is freed may be used at once for another connection, in another chain, but stays an entry as long as an RCU read-side
// section lasts (SLAB_TYPESAFE_BY_RCU), and each run of the walk is one. The chain that it leads to then ends with another
// number than the one that was begun, which is begun again.
//
// A resize moves all entries to another table, of another size (nf_conntrack_hash_resize). So at the beginning and at the end of
// each run the table must be the one in use: the kernel finds an entry, the anchor, which waits for a resize under way
// (nf_conntrack_generation), and the anchor must be in the table, in the bucket that it has in a table of this size. A table
// that is not in use any more is not freed, nor its memory used for another, before the run has ended, so that nothing was moved
// between the two. If another table was in use between two runs, in this one every entry is in the same bucket as before. How
// large the table is no memory tells: the kernel is asked before the table is found, before each run, and in the end.
//
// # Where the table is
//
// No symbol tells it without CAP_SYSLOG, or at all in a kernel without CONFIG_KALLSYMS_ALL. But an entry of the calling
// thread's namespace leads there: the kernel finds it (bpf_xdp_ct_lookup), its chain ends with the number of its bucket, and
// backwards leads to the bucket.
package cthash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/kmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

var (
	// ErrOdd is in the chain of errors about a table that does not add up: it was resized while it was read, or the kernel is
	// built in a way that is not known here.
	ErrOdd = errors.New("the kernel's connection tracking table does not add up")
	// ErrMany is in the chain when so many entries were found that it is quicker to have the kernel send all.
	ErrMany = errors.New("too many connection tracking entries")
	// ErrNoAnchor is in the chain when the kernel finds none of the entries that were to lead to the table.
	ErrNoAnchor = errors.New("no entry leads to the connection tracking table")
)

// Filter is what is asked for: entries of one network namespace to one of several addresses of one family, in the original
// direction.
type Filter struct {
	Protocol  uint8
	Addresses []netip.Addr // one to MaxAddresses
	Port      uint16       // 0 for any
	// Namespace is the address of its struct net.
	Namespace uint64
}

// MaxAddresses bounds the addresses of a filter.
const MaxAddresses = 32

// Has tells whether a tuple is one of the asked.
func (f Filter) Has(t skb.Tuple) bool {
	return t.Proto == f.Protocol && (f.Port == 0 || t.Dst.Port() == f.Port) && slices.Contains(f.Addresses, t.Dst.Addr())
}

// Key names an entry: its original tuple, and the zone that this tuple is in.
type Key struct {
	Tuple skb.Tuple
	Zone  uint16
}

// Reader walks through the table. It is not safe for concurrent use.
type Reader struct {
	memory    *kmem.Reader
	count     *nlsock.Counter
	layout    layout
	functions conntrackFunctions
	answer    int    // the array map in which programs answer
	shared    []byte // its memory
	finders   map[sizes]int
}

// New returns a reader; count, which may be nil, counts runs of its programs. It returns node.ErrPermission in the chain
// without CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN), and node.ErrNotSupported where the kernel is older than
// 5.18, has no BTF, or does not track connections.
func New(memory *kmem.Reader, count *nlsock.Counter) (*Reader, error) {
	r := &Reader{memory: memory, count: count, answer: -1, finders: map[sizes]int{}}
	r.functions.module = -1
	if err := r.open(); err != nil {
		return nil, errors.Join(bpf.Explain("the kernel's connection tracking table", err), r.Close())
	}
	return r, nil
}

func (r *Reader) open() (err error) {
	if r.layout, err = askLayout(); err != nil {
		return err
	}
	if r.functions, err = findFunctions(); err != nil {
		return err
	}
	if r.answer, err = bpf.NewArray(answerSize, unix.BPF_F_MMAPABLE); err != nil {
		return fmt.Errorf("making a BPF map: %w", err)
	}
	r.shared, err = unix.Mmap(r.answer, 0, answerSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

// Close unloads the programs.
func (r *Reader) Close() error {
	var errs []error
	if r.shared != nil {
		errs = append(errs, unix.Munmap(r.shared))
	}
	for _, fd := range r.finders {
		errs = append(errs, unix.Close(fd))
	}
	for _, fd := range []int{r.answer, r.functions.module} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}

// Find returns the entries that a filter is about. anchors are entries of the calling thread's namespace, some of which should
// still be there; they need not be what is asked for. It returns ErrOdd, ErrMany or ErrNoAnchor in the chain where the
// table cannot be read so.
func (r *Reader) Find(f Filter, anchors []Key) ([]Key, error) {
	if len(f.Addresses) == 0 || len(f.Addresses) > MaxAddresses {
		return nil, fmt.Errorf("%d addresses: %w", len(f.Addresses), ErrMany)
	}
	t, err := r.locate(anchors)
	if err != nil {
		return nil, err
	}
	return r.walk(t, f)
}

// walk walks through the whole table.
func (r *Reader) walk(t table, f Filter) ([]Key, error) {
	program, err := r.walker(t, f).Load()
	if err != nil {
		return nil, err
	}
	defer unix.Close(program)
	return r.runs(program, t.size, f, buckets)
}

// runs has a program walk through so many chains, which is what isSize returns before each run and in the end.
func (r *Reader) runs(program, size int, f Filter, isSize func() (int, error)) ([]Key, error) {
	same := func() error {
		is, err := isSize()
		if err == nil && is != size {
			err = fmt.Errorf("%w: it was resized", ErrOdd)
		}
		return err
	}
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(r.shared[at:]) }
	count := 0
	for next, some := 0, fewest; next < size; {
		some = min(some, size-next)
		if err := same(); err != nil {
			return nil, err
		}
		begin(r.shared[stateAt:], next, next+some, count)
		if _, err := bpf.Run(program, nil, packet()); err != nil {
			return nil, err
		}
		found := u64(stateAt + stateCount)
		r.count.Add(int(found-uint64(count)) * foundSize)
		switch {
		case u64(stateAt+stateCode) == codeMany:
			return nil, ErrMany
		case u64(stateAt+stateCode) == codeMoved:
			return nil, fmt.Errorf("%w: it was resized, or the anchor has gone", ErrOdd)
		case u64(stateAt+stateCode) != codeFine || found > maxFound:
			return nil, fmt.Errorf("%w: chains %d to %d", ErrOdd, next, next+some)
		}
		switch rounds := u64(headRounds); {
		case rounds < maxRounds:
			next, count = next+some, int(found)
			if rounds < maxRounds/8 {
				some *= 2
			}
		case some == 1:
			return nil, fmt.Errorf("%w: chain %d has no end", ErrOdd, next)
		default:
			some = (some + 1) / 2 // not at the end of these
		}
	}
	if err := same(); err != nil {
		return nil, err
	}
	var out []Key
	seen := map[Key]bool{}
	for i := range count {
		k, ok, err := r.key(u64(foundAt+i*foundSize), f)
		if err != nil {
			return nil, err
		}
		if ok && !seen[k] { // an entry may be met again when others go
			seen[k] = true
			out = append(out, k)
		}
	}
	return out, nil
}

// fewest is how many chains the first run walks through.
const fewest = 512

// key reads the entry with a node that was found, and tells whether it is one of the asked. Another may be there by now.
func (r *Reader) key(node uint64, f Filter) (k Key, ok bool, err error) {
	l := r.layout
	conn := node - uint64(l.node+l.tupleHash)
	from, to := min(l.tupleHash, l.net), max(l.tupleHash+l.size, l.net+8)
	zoned := l.zoneID != bpf.Absent && l.zoneDir != bpf.Absent
	if zoned {
		from, to = min(from, l.zoneID, l.zoneDir), max(to, l.zoneID+2, l.zoneDir+1)
	}
	b := make([]byte, to-from)
	err = r.memory.Bytes(conn+uint64(from), b)
	if errors.Is(err, kmem.ErrFault) {
		return Key{}, false, nil
	}
	if err != nil {
		return Key{}, false, err
	}
	t := b[l.tupleHash+l.tuple-from:]
	if binary.NativeEndian.Uint64(b[l.net-from:]) != f.Namespace || t[l.direction] != 0 {
		return Key{}, false, nil
	}
	size := 4
	if f.Addresses[0].Is6() {
		size = 16
	}
	if binary.NativeEndian.Uint16(t[l.family:]) != familyOf(f.Addresses[0]) {
		return Key{}, false, nil
	}
	end := func(address, port int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(t[address : address+size])
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(t[port:]))
	}
	k = Key{Tuple: skb.Tuple{Proto: t[l.protocol], Src: end(l.src, l.srcPort), Dst: end(l.dst, l.dstPort)}}
	const original = 1 << 0 // the zone may be that of one direction alone: nf_ct_zone_id
	if zoned && b[l.zoneDir-from]&original != 0 {
		k.Zone = binary.NativeEndian.Uint16(b[l.zoneID-from:])
	}
	return k, f.Has(k.Tuple), nil
}

func familyOf(a netip.Addr) uint16 {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// table is where the hash table is, and how many buckets it has; and the anchor that leads there, whose tuple is written
// where programs look for it.
type table struct {
	address uint64
	size    int
	anchor  sizes
	bucket  int // of the anchor's reply
}

// locate finds the table from an entry in it.
func (r *Reader) locate(anchors []Key) (table, error) {
	size, err := buckets()
	if err != nil {
		return table{}, err
	}
	for _, k := range anchors {
		if !findable(k.Tuple) {
			continue
		}
		address, bucket, found, err := r.find(k)
		if err != nil {
			return table{}, err
		}
		// A bucket that is not among the first has another number in a table of another size: the sizes are multiples of 512.
		if !found || bucket >= uint64(size) || bucket < 2*uint64(size)/512 {
			continue
		}
		ok, err := r.isTable(address, size)
		if err != nil {
			return table{}, err
		}
		if ok {
			return table{address, size, k.write(r.shared), int(bucket)}, nil
		}
	}
	return table{}, ErrNoAnchor
}

// isTable looks at the first and the last buckets: each holds an address, or its own number where it is empty. The walk looks
// at all.
func (r *Reader) isTable(address uint64, size int) (bool, error) {
	const some = 16
	for _, from := range []int{0, size - some} {
		b := make([]byte, 8*some)
		if err := r.memory.Bytes(address+uint64(8*from), b); errors.Is(err, kmem.ErrFault) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		for i := range some {
			if v := binary.NativeEndian.Uint64(b[8*i:]); v == 0 || v&1 == 1 && v>>1 != uint64(from+i) {
				return false, nil
			}
		}
	}
	return true, nil
}

// buckets is the size of the table, which is the same in every namespace.
func buckets() (int, error) {
	const file = "/proc/sys/net/netfilter/nf_conntrack_buckets"
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 512 || n > 1<<30 {
		return 0, fmt.Errorf("%w: %q buckets", ErrOdd, b)
	}
	return n, nil
}
