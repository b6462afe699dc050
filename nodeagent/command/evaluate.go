package command

import (
	"context"
	"runtime"
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

// evaluate walks a packet through the live state of this process's network namespace.
func evaluate(ctx context.Context, s walk.Start) (*trace.Trace, error) {
	// Sockets and /proc/thread-self belong to the thread's namespace.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w := walk.Walker{Open: func(context.Context) (node.Namespace, func() error, error) {
		ns, err := live.Open()
		if err != nil {
			return nil, nil, &node.ReadError{What: "the network namespace", Err: err}
		}
		return ns, ns.Close, nil
	}}
	return w.Walk(ctx, s)
}
