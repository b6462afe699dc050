//go:build linux

// Package chainmem reads the rules of an nftables chain from kernel memory, as far as they tell that a packet misses them.
//
// A chain such as iptables-nft's KUBE-SERVICES has a rule or more for every Service of the cluster. By netlink they come all,
// and it takes the kernel some microseconds to write each down; a packet misses all but one or two at their first
// comparison. In memory a chain's rules lie one behind the other, as the datapath runs them:
//
//	struct nft_chain ─ blob_gen_0|1 ─ struct nft_rule_blob ─ data: struct nft_rule_dp, its expressions, the next …
//	struct nft_expr ─┬─ ops ─ struct nft_expr_ops ─ type ─ name
//	                 └─ data: struct nft_payload, nft_meta, nft_cmp_expr, …
//
// (include/net/netfilter/nf_tables.h, net/netfilter/nf_tables_core.c.) They are copied in pieces by a small BPF program, and
// the leading loads and comparisons of each rule are written down as the kernel would (attributes), up to the first
// expression that is none of these.
//
// What is told here is a means to choose whom to ask. The caller asks the kernel for each rule that the packet may not miss by its
// handle, and for one of each shape among those that it misses: what the kernel writes down has to begin with the same bytes.
// The rules change under the reader's hands: what does not add up is an error, and what was read is true when the generation
// of the rule set is the same afterwards.
package chainmem

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/kmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
)

// ErrOdd is in the chain of errors about rules that do not add up: they changed while they were read, or the kernel is built
// in a way that is not known here.
var ErrOdd = errors.New("the kernel's rules do not add up")

// memory reads a few bytes at a time, as kmem.Reader does.
type memory interface {
	Bytes(address uint64, b []byte) error
	Pointer(address uint64) (uint64, error)
	Text(address uint64) (string, error)
	Symbol(address uint64) (string, error)
}

// Reader reads chains. It is not safe for concurrent use.
type Reader struct {
	memory  memory
	bulk    func(address uint64, n int) ([]byte, error) // copied, outside of tests
	name    int                                         // where nft_chain.name is
	layout  layout
	program int
	answer  int    // the array map in which the program answers
	shared  []byte // its memory
	ctx     []byte
	count   *nlsock.Counter
	// kinds are the expressions that were met, by the addresses of their operations, and others those in the chain that is read.
	// some is the address of one of the former, and tried how many others in the chain are far from it.
	kinds, others map[uint64]kind
	some          uint64
	tried         int
	// rest keeps what of a rule lies in one piece, until the next has come.
	rest []byte
	// attrs and shape are what the last rule was written down to.
	attrs message
	shape []byte
}

// New loads the program; count, which may be nil, counts its runs. It returns node.ErrPermission in the chain without CAP_BPF
// and CAP_PERFMON (or CAP_SYS_ADMIN), and node.ErrNotSupported where the kernel is older than 5.18 or has no nftables.
func New(memory *kmem.Reader, count *nlsock.Counter) (*Reader, error) {
	r := &Reader{memory: memory, name: memory.Layout.ChainName, program: -1, answer: -1, ctx: make([]byte, ctxSize), count: count, kinds: map[uint64]kind{}, others: map[uint64]kind{}}
	r.bulk = r.copied
	if err := r.load(); err != nil {
		return nil, errors.Join(bpf.Explain("the kernel's rules", err), r.Close())
	}
	return r, nil
}

// Close unloads the program.
func (r *Reader) Close() error {
	var errs []error
	if r.shared != nil {
		errs = append(errs, unix.Munmap(r.shared))
	}
	for _, fd := range []int{r.program, r.answer} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}
