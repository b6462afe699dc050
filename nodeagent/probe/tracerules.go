//go:build linux

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nft"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// TablePrefix begins the name of every table that a probe makes, in the family inet.
const TablePrefix = "svctrace-probe-"

// tableOwner is NFT_TABLE_F_OWNER (Linux 5.12): the table belongs to the socket that made it. Older kernels refuse the flag.
const tableOwner = 2

// attrTableOwner is NFTA_TABLE_OWNER: the port of the owning socket.
const attrTableOwner = 7

// tracePriority is before the tables raw and behind the reassembly of fragments (NF_IP_PRI_CONNTRACK_DEFRAG, -400).
const tracePriority = -350

// errNoOwner says why trace rules are not made.
var errNoOwner = errors.New("the kernel has no tables that go with their socket (it needs Linux 5.12), and rules that could remain are not made")

// traceRules are rules that mark the first packets of connections for tracing, in a table that the kernel removes when
// the socket closes.
type traceRules struct {
	sock  *nlsock.Socket
	table string
}

// tuplesOfBatch bounds one transaction: a message larger than the socket's send buffer is refused.
const tuplesOfBatch = 32

// makeTraceRules adds the rules for connections to the calling thread's namespace.
func makeTraceRules(ctx context.Context, table string, tuples []skb.Tuple) (*traceRules, error) {
	s, err := nlsock.Open(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	r := &traceRules{sock: s, table: table}
	err = s.Batch(ctx, unix.NFNL_SUBSYS_NFTABLES, tableParts(table))
	for some := range slices.Chunk(tuples, tuplesOfBatch) {
		if err == nil {
			err = s.Batch(ctx, unix.NFNL_SUBSYS_NFTABLES, ruleParts(table, some))
		}
	}
	if err == nil {
		err = owned(ctx, table)
	}
	if err != nil {
		return nil, errors.Join(explainTrace(err), r.close())
	}
	return r, nil
}

// explainTrace names what a refusal means. A kernel that does not know the flag answers EOPNOTSUPP, before 5.14 EINVAL.
func explainTrace(err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: %w", errNoOwner, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (needs CAP_NET_ADMIN)", node.ErrPermission)
	}
	return err
}

// owned makes sure that the table really belongs to a socket.
func owned(ctx context.Context, table string) error {
	r, err := nft.New(nil)
	if err != nil {
		return err
	}
	defer r.Close()
	attrs, err := r.Table(ctx, node.NFTInet, table)
	if err != nil {
		return err
	}
	has := false
	err = nlattr.Each(attrs, func(typ uint16, _ []byte) error {
		has = has || typ == attrTableOwner
		return nil
	})
	if err == nil && !has {
		err = errNoOwner
	}
	return err
}

// close removes the table.
func (r *traceRules) close() error { return r.sock.Close() }

// traceChains are the chains of the table: one at each place where packets begin.
var traceChains = []struct {
	name string
	hook uint32
}{{"prerouting", unix.NF_INET_PRE_ROUTING}, {"output", unix.NF_INET_LOCAL_OUT}}

// tableParts make the table, owned by the socket, and its chains.
func tableParts(table string) []nlsock.Part {
	body := nlattr.Append(genmsg(), unix.NFTA_TABLE_NAME, nlattr.String(table))
	body = nlattr.Append(body, unix.NFTA_TABLE_FLAGS, nlattr.BigUint32(tableOwner))
	parts := []nlsock.Part{part(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)}
	for _, h := range traceChains {
		priority := int32(tracePriority)
		hook := nlattr.Append(nil, unix.NFTA_HOOK_HOOKNUM, nlattr.BigUint32(h.hook))
		hook = nlattr.Append(hook, unix.NFTA_HOOK_PRIORITY, nlattr.BigUint32(uint32(priority)))
		body := nlattr.Append(genmsg(), unix.NFTA_CHAIN_TABLE, nlattr.String(table))
		body = nlattr.Append(body, unix.NFTA_CHAIN_NAME, nlattr.String(h.name))
		body = nlattr.Append(body, unix.NFTA_CHAIN_HOOK|nlattr.Nested, hook)
		body = nlattr.Append(body, unix.NFTA_CHAIN_POLICY, nlattr.BigUint32(nfAccept))
		body = nlattr.Append(body, unix.NFTA_CHAIN_TYPE, nlattr.String("filter"))
		parts = append(parts, part(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, body))
	}
	return parts
}

// ruleParts make a rule in each chain for each connection.
func ruleParts(table string, tuples []skb.Tuple) []nlsock.Part {
	var parts []nlsock.Part
	for _, t := range tuples {
		exprs := traceExprs(t)
		for _, h := range traceChains {
			body := nlattr.Append(genmsg(), unix.NFTA_RULE_TABLE, nlattr.String(table))
			body = nlattr.Append(body, unix.NFTA_RULE_CHAIN, nlattr.String(h.name))
			body = nlattr.Append(body, unix.NFTA_RULE_EXPRESSIONS|nlattr.Nested, exprs)
			parts = append(parts, part(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, body))
		}
	}
	return parts
}

func genmsg() []byte { return []byte{byte(node.NFTInet), unix.NFNETLINK_V0, 0, 0} }

func part(msg, flags uint16, body []byte) nlsock.Part {
	return nlsock.Part{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | msg, Flags: flags, Body: body}
}

// traceExprs is, for TCP: meta nfproto ipv4 meta l4proto tcp ip saddr . ip daddr, the ports, tcp flags & (fin|syn|rst|ack) ==
// syn, meta nftrace set 1.
func traceExprs(t skb.Tuple) []byte {
	nfproto, source, dest := byte(unix.NFPROTO_IPV4), uint32(12), uint32(16)
	if t.Src.Addr().Is6() {
		nfproto, source, dest = unix.NFPROTO_IPV6, 8, 24
	}
	var b []byte
	b = metaIs(b, unix.NFT_META_NFPROTO, nfproto)
	b = metaIs(b, unix.NFT_META_L4PROTO, t.Proto)
	b = payloadIs(b, unix.NFT_PAYLOAD_NETWORK_HEADER, source, addrBytes(t.Src.Addr()))
	b = payloadIs(b, unix.NFT_PAYLOAD_NETWORK_HEADER, dest, addrBytes(t.Dst.Addr()))
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, t.Src.Port()), t.Dst.Port())
	b = payloadIs(b, unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, ports)
	if t.Proto == skb.TCP {
		const flags, asked, syn = 13, 0x17, 0x02
		b = payload(b, unix.NFT_PAYLOAD_TRANSPORT_HEADER, flags, 1)
		b = masked(b, asked)
		b = is(b, []byte{syn})
	}
	one := nlattr.Append(nil, unix.NFTA_IMMEDIATE_DREG, nlattr.BigUint32(unix.NFT_REG_1))
	one = nlattr.Append(one, unix.NFTA_IMMEDIATE_DATA|nlattr.Nested, nlattr.Append(nil, unix.NFTA_DATA_VALUE, []byte{1}))
	b = expr(b, "immediate", one)
	set := nlattr.Append(nil, unix.NFTA_META_KEY, nlattr.BigUint32(unix.NFT_META_NFTRACE))
	set = nlattr.Append(set, unix.NFTA_META_SREG, nlattr.BigUint32(unix.NFT_REG_1))
	return expr(b, "meta", set)
}

func addrBytes(a netip.Addr) []byte { return a.AsSlice() }

func expr(b []byte, name string, data []byte) []byte {
	e := nlattr.Append(nil, unix.NFTA_EXPR_NAME, nlattr.String(name))
	e = nlattr.Append(e, unix.NFTA_EXPR_DATA|nlattr.Nested, data)
	return nlattr.Append(b, unix.NFTA_LIST_ELEM|nlattr.Nested, e)
}

func metaIs(b []byte, key uint32, v byte) []byte {
	m := nlattr.Append(nil, unix.NFTA_META_KEY, nlattr.BigUint32(key))
	m = nlattr.Append(m, unix.NFTA_META_DREG, nlattr.BigUint32(unix.NFT_REG_1))
	return is(expr(b, "meta", m), []byte{v})
}

func payload(b []byte, base, offset, size uint32) []byte {
	p := nlattr.Append(nil, unix.NFTA_PAYLOAD_DREG, nlattr.BigUint32(unix.NFT_REG_1))
	p = nlattr.Append(p, unix.NFTA_PAYLOAD_BASE, nlattr.BigUint32(base))
	p = nlattr.Append(p, unix.NFTA_PAYLOAD_OFFSET, nlattr.BigUint32(offset))
	p = nlattr.Append(p, unix.NFTA_PAYLOAD_LEN, nlattr.BigUint32(size))
	return expr(b, "payload", p)
}

func payloadIs(b []byte, base, offset uint32, v []byte) []byte {
	return is(payload(b, base, offset, uint32(len(v))), v)
}

// is compares register 1.
func is(b []byte, v []byte) []byte {
	c := nlattr.Append(nil, unix.NFTA_CMP_SREG, nlattr.BigUint32(unix.NFT_REG_1))
	c = nlattr.Append(c, unix.NFTA_CMP_OP, nlattr.BigUint32(unix.NFT_CMP_EQ))
	c = nlattr.Append(c, unix.NFTA_CMP_DATA|nlattr.Nested, nlattr.Append(nil, unix.NFTA_DATA_VALUE, v))
	return expr(b, "cmp", c)
}

// masked keeps some bits of the byte in register 1.
func masked(b []byte, mask byte) []byte {
	m := nlattr.Append(nil, unix.NFTA_BITWISE_SREG, nlattr.BigUint32(unix.NFT_REG_1))
	m = nlattr.Append(m, unix.NFTA_BITWISE_DREG, nlattr.BigUint32(unix.NFT_REG_1))
	m = nlattr.Append(m, unix.NFTA_BITWISE_LEN, nlattr.BigUint32(1))
	m = nlattr.Append(m, unix.NFTA_BITWISE_MASK|nlattr.Nested, nlattr.Append(nil, unix.NFTA_DATA_VALUE, []byte{mask}))
	m = nlattr.Append(m, unix.NFTA_BITWISE_XOR|nlattr.Nested, nlattr.Append(nil, unix.NFTA_DATA_VALUE, []byte{0}))
	return expr(b, "bitwise", m)
}
