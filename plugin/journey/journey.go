// Package journey follows a packet over all the nodes that it passes, and the reply back.
//
// An agent walks a packet on one node, through the namespaces of its pods, and ends where the packet leaves the node. The
// journey goes on with the agent on the node that gets it, until every branch has an end: a socket, a drop, or the world
// outside the cluster. From the ends that were reached the reply is walked to the client, against the connection tracking
// entries that the way there made. Nothing is assumed about a node whose agent cannot be asked.
package journey

import (
	"context"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// Agent answers questions about one node.
type Agent interface {
	// Ask sends one request and waits for its answer. An answer that carries an Error is returned as an answer.
	Ask(ctx context.Context, r wire.Request) (*wire.Answer, error)
	// Hello is what the agent said about itself; nil before the first answer.
	Hello() *wire.Hello
}

// Agents finds the agent on a node, and starts it when it does not run yet.
type Agents interface {
	// On waits for the agent on a node. It fails with ErrLimit when no more nodes are to be asked.
	On(ctx context.Context, node string) (Agent, error)
}

// Start is the packet of a journey.
type Start struct {
	Client   intent.Client
	Protocol string
	// Destination is what the client connects to.
	Destination netip.AddrPort
	// In is the interface by which a packet from outside enters the client's node.
	In string
}

// Journey is everything that can become of a packet.
type Journey struct {
	// Trace holds the hops of all nodes, and the outcomes where the branches end; nil when Error is set.
	Trace *trace.Trace
	// Error is the answer of the agent on the client's node when it could not walk the packet.
	Error *wire.Error
	// Stops are the outcomes that are no ends: the packet goes on to a node that was not asked.
	Stops []Stop
	// Replies are the ways back that were walked.
	Replies []Reply
}

// Stop says why the walk of a branch ends at the border of a node.
type Stop struct {
	// Outcome is the index in Trace.Outcomes.
	Outcome int
	// Node is where the packet goes.
	Node string
	// Why says why the node could not be read, or why the branch is not followed.
	Why string
	// Bounded is true when the branch was left out to keep the trace small, and false when the node could not be read.
	Bounded bool
}

// Reply is the way of the first reply packet back to the client.
type Reply struct {
	// Outcome is the index in the journey's Trace.Outcomes of the end that answers.
	Outcome int
	// Same are further outcomes on the same nodes and of the same kind, which it stands for.
	Same []int
	// Trace is the reply's way over all nodes; nil when it could not be walked.
	Trace *trace.Trace
	// Return is how the reply comes back, and Why says it in words; empty for Symmetric.
	Return Return
	Why    string
	// NotStarted is true when the node of the end said that no packet can start there: most likely the pod has gone since the
	// packet was delivered to it.
	NotStarted bool
	// Undone are the nodes whose connection tracking translates the reply back.
	Undone []string
}

// Return is how a reply comes back.
type Return string

// The returns, from best to worst.
const (
	// Symmetric: to the client, by the nodes it came from, and from the address that the client had asked.
	Symmetric Return = "symmetric"
	// Asymmetric: the same, but by other nodes or another interface.
	Asymmetric Return = "asymmetric"
	// Unclear: a node could not be read, or something on the way is not understood.
	Unclear Return = "unclear"
	// Untranslated: to the client, but from an address that the client had not asked, so that its stack refuses it; or to the
	// address that masqueraded the client, and no further.
	Untranslated Return = "untranslated"
	// Lost: it does not come to the client.
	Lost Return = "lost"
)

// rank orders the returns from best to worst.
func (r Return) rank() int {
	for i, o := range []Return{Symmetric, Asymmetric, Unclear, Untranslated, Lost} {
		if r == o {
			return i
		}
	}
	return -1
}
