package launch_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch/launchtest"
)

// talk connects a conversation with an agent by pipes.
func talk(t *testing.T, a *launchtest.Agent) *launch.Conversation {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	go func() { _ = outW.CloseWithError(a.Serve(inR, outW)) }()
	t.Cleanup(func() { _ = inW.Close() })
	return launch.Converse(outR, inW)
}

func TestManyAskersGetTheirOwnAnswers(t *testing.T) {
	c := talk(t, &launchtest.Agent{Walk: func(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
		return trace.New(trace.Packet{In: r.In}), nil
	}})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			in := string(rune('a' + i%26))
			a, err := c.Ask(t.Context(), wire.Request{Walk: &wire.WalkRequest{In: in}})
			if err != nil || a.Walk.Packet.In != in {
				t.Errorf("asked %s, got %+v, %v", in, a, err)
			}
		})
	}
	wg.Wait()
}

func TestErrorOfARequestIsAnAnswer(t *testing.T) {
	c := talk(t, &launchtest.Agent{Walk: func(wire.WalkRequest) (*trace.Trace, *wire.Error) {
		return nil, &wire.Error{Code: wire.CodePermission, Message: "no"}
	}})
	a, err := c.Ask(t.Context(), wire.Request{Walk: &wire.WalkRequest{}})
	if err != nil || a.Error == nil || a.Error.Code != wire.CodePermission {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestAskEndsWithItsContext(t *testing.T) {
	c := talk(t, &launchtest.Agent{Silent: true})
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if _, err := c.Ask(ctx, wire.Request{Describe: &wire.DescribeRequest{}}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEveryoneLearnsThatTheAgentIsGone(t *testing.T) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := launch.Converse(outR, inW)
	go func() {
		var r wire.Request
		_ = wire.Read(inR, &r)
		_ = outW.Close()
		_ = inR.Close()
	}()
	if _, err := c.Ask(t.Context(), wire.Request{Describe: &wire.DescribeRequest{}}); err == nil {
		t.Error("no error")
	}
	if _, err := c.Ask(t.Context(), wire.Request{Describe: &wire.DescribeRequest{}}); err == nil {
		t.Error("no error afterwards")
	}
}
