package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Keys of a Socket (enum nft_socket_keys).
const (
	socketTransparent = iota
	socketMark
	socketWildcard
	socketCgroup
)

// Socket loads a property of the socket that a packet belongs to (net/netfilter/nft_socket.c).
type Socket struct {
	Key   uint32
	Dest  register
	Level uint32
}

func decodeSocket(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return nil, err
	}
	x := &Socket{Key: t.u32(1), Level: t.u32(3)}
	if x.Key > socketCgroup {
		return &Opaque{Type: "socket", Why: fmt.Sprintf("key %d", x.Key), Raw: append([]byte(nil), b...)}, nil
	}
	x.Dest, err = parseRegister(t.u32(2))
	return x, err
}

// Name returns socket.
func (x *Socket) Name() string { return "socket" }

func (x *Socket) effect() bool { return false }

func (x *Socket) text() string {
	return [...]string{"socket transparent", "socket mark", "socket wildcard", fmt.Sprintf("socket cgroupv2 level %d", x.Level)}[x.Key]
}

func (x *Socket) typ() *dataType {
	return [...]*dataType{typeInteger, typeMark, typeInteger, typeHostInteger}[x.Key]
}

func (x *Socket) eval(st *state) (bool, error) {
	p := st.p
	v := unknown([...]int{1, 4, 1, 8}[x.Key])
	if x.Key == socketTransparent || x.Key == socketWildcard {
		v.known[0] = 0xfe
	}
	switch {
	case p.Local && p.In == "":
	case p.In == "" || p.Proto() != skb.TCP && p.Proto() != skb.UDP:
		return false, nil
	case p.State == skb.CtEstablished || p.State == skb.CtEstablishedReply:
		if !st.depends("the packet belongs to a local socket") {
			return false, nil
		}
	default:
		list, err := st.e.Env.Listening(st.ctx, p.Proto(), p.Destination())
		if err != nil {
			return false, fmt.Errorf("asking for sockets on %s: %w", p.Destination(), err)
		}
		if len(list) == 0 {
			return false, nil
		}
		if x.Key == socketWildcard {
			v = knownU8(0)
			if list[0].Local.Addr().IsUnspecified() {
				v = knownU8(1)
			}
		}
	}
	st.regs.store(x.Dest, v, source{label: x.text(), typ: x.typ()})
	return true, nil
}
