package cli

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

// refuseReplies makes node2 say of answers of its endpoint that they cannot start there, and calls then before each refusal.
func refuseReplies(s *shop, until int, then func()) (refused *int) {
	refused = new(int)
	before := s.Agents["node2"].Walk
	s.Agents["node2"].Walk = func(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
		if r.Reply && r.Source.Addr() == netip.MustParseAddr("10.244.2.15") && *refused < until {
			*refused++
			then()
			return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "no namespace on this node has the address 10.244.2.15"}
		}
		return before(r)
	}
	return refused
}

func TestEndpointThatGoesBeforeItsAnswerIsNoUnknown(t *testing.T) {
	s := newShop()
	refused := refuseReplies(s, 1, func() {
		if err := s.Client.Tracker().Update(slicesResource, webSlice("10.244.1.10"), "shop"); err != nil {
			t.Error(err)
		}
		for _, k := range s.kernels {
			k.endpoints = []string{"10.244.1.10:8080"}
		}
	})
	if out, code := traced(t, s, render.Human); code != exitOK || *refused != 1 {
		t.Errorf("exit code %d, %d refused\n%s", code, *refused, out)
	}

	// The slices may be older than the kernel.
	s = newShop()
	refused = refuseReplies(s, 1, func() {})
	if out, code := traced(t, s, render.Human); code != exitOK || *refused != 1 {
		t.Errorf("once: exit code %d, %d refused\n%s", code, *refused, out)
	}
}

func TestAnswerThatNeverStartsIsUnknown(t *testing.T) {
	s := newShop()
	refused := refuseReplies(s, 1000, func() {})
	out, code := traced(t, s, render.Human)
	if flat := strings.Join(strings.Fields(string(out)), " "); code != exitUnknown || *refused == 0 || !strings.Contains(flat, "no namespace on this node has the address 10.244.2.15") {
		t.Errorf("exit code %d, %d refused\n%s", code, *refused, out)
	}
}
