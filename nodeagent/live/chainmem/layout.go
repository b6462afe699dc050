//go:build linux

package chainmem

import "github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"

// layout is where members lie in the running kernel's structures, in bytes, as the kernel itself told.
//
// To answer about a structure the kernel looks for its name among all its types, for a quarter of a millisecond, and keeps what it
// found in one of 31 places by the hash of the name (vmlinux_cand_cache in kernel/bpf/btf.c). Two names in one place drive each
// other out. So these are chosen such that all have places of their own, together with those of package kmem: what nft_rule_dp and
// nft_immediate_expr are like is written down in this package.
type layout struct {
	// cursor is net.nft.gencursor.
	cursor int
	// Of struct nft_chain: its rules in the two generations.
	blob0, blob1 int
	// Of struct nft_rule_blob.
	blobSize, blobData int
	// Of struct nft_expr_ops.
	opsSize, opsDump int
	// Of the expressions.
	payloadBase, payloadOffset     field
	payloadLength, payloadRegister int
	metaKey                        field
	metaRegister                   int
	cmpOp                          field
	cmpData, cmpRegister, cmpBytes int
	fast, fast16                   fastLayout
	// Of struct nft_verdict.
	verdictCode, verdictChain int
}

// field is an integer, perhaps of some bits: shifted to the left and then to the right, the eight bytes at an offset are its value.
type field struct{ at, left, right int }

// fastLayout is of one of the two comparisons for equality, with four bytes and with up to sixteen.
type fastLayout struct{ data, register, length, inverted int }

// describe writes down the structures of interest, as far as they are asked about, and the questions.
func describe(l *layout) (*bpf.Blob, []bpf.Question) {
	b := bpf.NewBlob()
	data := b.Structure("nft_data", bpf.Named("data", bpf.Int))
	b.Structure("net", bpf.Named("nft", b.Structure("netns_nft", bpf.Named("gencursor", bpf.Int))))
	b.Structure("nft_chain", bpf.Named("blob_gen_0", bpf.Pointer), bpf.Named("blob_gen_1", bpf.Pointer))
	b.Structure("nft_rule_blob", bpf.Named("size", bpf.Int), bpf.Named("data", b.Array(bpf.Int)))
	b.Structure("nft_expr_ops", bpf.Named("size", bpf.Int), bpf.Named("dump", bpf.Pointer))
	b.Structure("nft_payload", bpf.Named("base", bpf.Enum), bpf.Named("offset", bpf.Int), bpf.Named("len", bpf.Int), bpf.Named("dreg", bpf.Int))
	b.Structure("nft_meta", bpf.Named("key", bpf.Enum), bpf.Named("dreg", bpf.Int))
	b.Structure("nft_cmp_expr", bpf.Named("op", bpf.Enum), bpf.Named("data", data), bpf.Named("sreg", bpf.Int), bpf.Named("len", bpf.Int))
	b.Structure("nft_cmp_fast_expr", bpf.Named("data", bpf.Int), bpf.Named("sreg", bpf.Int), bpf.Named("len", bpf.Int), bpf.Named("inv", bpf.Int))
	b.Structure("nft_cmp16_fast_expr", bpf.Named("data", data), bpf.Named("sreg", bpf.Int), bpf.Named("len", bpf.Int), bpf.Named("inv", bpf.Int))
	b.Structure("nft_verdict", bpf.Named("code", bpf.Int), bpf.Named("chain", bpf.Pointer))

	var qs []bpf.Question
	at := func(answer *int, structure string, way ...int) {
		qs = append(qs, bpf.Question{Answer: answer, Kind: bpf.ByteOffset, Structure: structure, Way: way})
	}
	in := func(f *field, structure string, way ...int) {
		at(&f.at, structure, way...)
		qs = append(qs, bpf.Question{Answer: &f.left, Kind: bpf.Left, Structure: structure, Way: way},
			bpf.Question{Answer: &f.right, Kind: bpf.Right, Structure: structure, Way: way})
	}
	fast := func(f *fastLayout, structure string) {
		at(&f.data, structure, 0)
		at(&f.register, structure, 1)
		at(&f.length, structure, 2)
		at(&f.inverted, structure, 3)
	}
	at(&l.cursor, "net", 0, 0)
	at(&l.blob0, "nft_chain", 0)
	at(&l.blob1, "nft_chain", 1)
	at(&l.blobSize, "nft_rule_blob", 0)
	at(&l.blobData, "nft_rule_blob", 1)
	at(&l.opsSize, "nft_expr_ops", 0)
	at(&l.opsDump, "nft_expr_ops", 1)
	in(&l.payloadBase, "nft_payload", 0)
	in(&l.payloadOffset, "nft_payload", 1)
	at(&l.payloadLength, "nft_payload", 2)
	at(&l.payloadRegister, "nft_payload", 3)
	in(&l.metaKey, "nft_meta", 0)
	at(&l.metaRegister, "nft_meta", 1)
	in(&l.cmpOp, "nft_cmp_expr", 0)
	at(&l.cmpData, "nft_cmp_expr", 1)
	at(&l.cmpRegister, "nft_cmp_expr", 2)
	at(&l.cmpBytes, "nft_cmp_expr", 3)
	fast(&l.fast, "nft_cmp_fast_expr")
	fast(&l.fast16, "nft_cmp16_fast_expr")
	at(&l.verdictCode, "nft_verdict", 0)
	at(&l.verdictChain, "nft_verdict", 1)
	return b, qs
}

// Of struct nft_rule_dp: eight bytes with is_last in the lowest bit, dlen in 12 bits behind it and handle in 42, and then the
// rule's expressions. It has been so since Linux 5.17, where it came.
const (
	ruleHead       = 8
	ruleLengthBits = 12
	ruleHandleBits = 42
)

// Of struct nft_immediate_expr: union nft_data of 16 bytes, and the number of the register that it goes to.
const (
	immediateData     = 0
	immediateRegister = 16
	immediateSize     = exprHead + 24
)
