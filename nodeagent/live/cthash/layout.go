//go:build linux

package cthash

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/kmem"
)

// layout is where members lie in the running kernel's structures, in bytes.
type layout struct {
	// Of struct nf_conn: its two struct nf_conntrack_tuple_hash, its network namespace, and its zone, which kernels without
	// CONFIG_NF_CONNTRACK_ZONES do not have.
	tupleHash, net, zoneID, zoneDir int
	// Of struct nf_conntrack_tuple_hash, and its size.
	node, tuple, size int
	// Of struct hlist_nulls_node.
	next, back int
	// Of struct nf_conntrack_tuple.
	src, srcPort, family, dst, dstPort, protocol, direction int
}

// replyNode is where the node of an entry's reply direction is in struct nf_conn.
func (l layout) replyNode() int { return l.tupleHash + l.size + l.node }

// maxSize bounds the size of a struct nf_conntrack_tuple_hash; it has 56 bytes.
const maxSize = 64

func askLayout() (layout, error) {
	var l layout
	b := bpf.NewBlob()
	node := b.Structure("hlist_nulls_node", bpf.Named("next", bpf.Pointer), bpf.Named("pprev", bpf.Pointer))
	some := b.Structure("", bpf.Named("all", bpf.Int)) // for unions: the kernel tells no composite types apart
	src := b.Structure("", bpf.Named("u3", some), bpf.Named("u", some), bpf.Named("l3num", bpf.Int))
	dst := b.Structure("", bpf.Named("u3", some), bpf.Named("u", some), bpf.Named("protonum", bpf.Int), bpf.Named("dir", bpf.Int))
	tuple := b.Structure("nf_conntrack_tuple", bpf.Named("src", src), bpf.Named("dst", dst))
	hash := b.Structure("nf_conntrack_tuple_hash", bpf.Named("hnnode", node), bpf.Named("tuple", tuple))
	zone := b.Structure("nf_conntrack_zone", bpf.Named("id", bpf.Int), bpf.Named("dir", bpf.Int))
	b.Structure("nf_conn", bpf.Named("tuplehash", b.Array(hash)), bpf.Named("ct_net", some), bpf.Named("zone", zone))
	at := func(answer *int, structure string, way ...int) bpf.Question {
		return bpf.Question{Answer: answer, Kind: bpf.ByteOffset, Structure: structure, Way: way}
	}
	may := func(answer *int, structure string, way ...int) bpf.Question {
		return bpf.Question{Answer: answer, Kind: bpf.ByteOffset, Structure: structure, Way: way, Optional: true}
	}
	err := kmem.Ask(b, []bpf.Question{
		at(&l.tupleHash, "nf_conn", 0), at(&l.net, "nf_conn", 1), may(&l.zoneID, "nf_conn", 2, 0), may(&l.zoneDir, "nf_conn", 2, 1),
		at(&l.node, "nf_conntrack_tuple_hash", 0), at(&l.tuple, "nf_conntrack_tuple_hash", 1),
		{Answer: &l.size, Kind: bpf.Size, Structure: "nf_conntrack_tuple_hash"},
		at(&l.next, "hlist_nulls_node", 0), at(&l.back, "hlist_nulls_node", 1),
		at(&l.src, "nf_conntrack_tuple", 0, 0), at(&l.srcPort, "nf_conntrack_tuple", 0, 1), at(&l.family, "nf_conntrack_tuple", 0, 2),
		at(&l.dst, "nf_conntrack_tuple", 1, 0), at(&l.dstPort, "nf_conntrack_tuple", 1, 1),
		at(&l.protocol, "nf_conntrack_tuple", 1, 2), at(&l.direction, "nf_conntrack_tuple", 1, 3),
	})
	if err == nil && (l.size > maxSize || l.next != 0 || l.dstPort%4 != 0 || l.protocol != l.dstPort+2 || l.direction != l.dstPort+3) {
		err = fmt.Errorf("%w: %+v", ErrOdd, l)
	}
	return l, err
}
