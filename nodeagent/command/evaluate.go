package command

import (
	"context"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

func contextWithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithTimeout(ctx, d)
}

// evaluate walks a packet through the live state of this machine, from this process's network namespace on.
func evaluate(ctx context.Context, s walk.Start, options ...live.Option) (*trace.Trace, error) {
	w := walk.Walker{Open: func(context.Context) (node.Node, func() error, error) {
		n, err := live.OpenNode(options...)
		if err != nil {
			return nil, nil, err
		}
		return n, n.Close, nil
	}}
	return w.Walk(ctx, s)
}
