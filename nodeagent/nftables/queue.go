package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
)

// Queue hands packets to a program in user space (net/netfilter/nft_queue.c).
type Queue struct {
	Number, Total  uint16
	Bypass, Fanout bool
	Register       register
	HasRegister    bool
}

func decodeQueue(b []byte, _ int) (Expr, error) {
	t, err := attributes(b).find(4)
	if err != nil {
		return nil, err
	}
	flags := t.u16(3)
	x := &Queue{Number: t.u16(1), Total: t.u16(2), Bypass: flags&1 != 0, Fanout: flags&2 != 0, HasRegister: t.has(4)}
	if x.HasRegister {
		if x.Register, err = parseRegister(t.u32(4)); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// Name returns queue.
func (x *Queue) Name() string { return "queue" }

func (x *Queue) effect() bool { return true }

func (x *Queue) eval(st *state) (bool, error) {
	st.res.Code = rule.Queue
	if x.HasRegister {
		st.act("queue to a computed number%s", flagText(x.Bypass, ", accepted when no program listens"))
	} else {
		st.act("%s", queueText(uint32(x.Number), x.Total, x.Bypass, x.Fanout))
	}
	return false, nil
}

// queueText says where a packet is queued to.
func queueText(number uint32, total uint16, bypass, fanout bool) string {
	s := fmt.Sprintf("queue to %d", number)
	if total > 1 {
		s += fmt.Sprintf("-%d", number+uint32(total)-1)
	}
	return s + flagText(fanout, ", by CPU") + flagText(bypass, ", accepted when no program listens")
}

func flagText(is bool, text string) string {
	if is {
		return text
	}
	return ""
}
