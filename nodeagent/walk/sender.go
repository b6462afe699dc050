package walk

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// sent notes who sends the packet, where that is known: rules and routes may tell senders apart, as those of a service
// mesh do with its own proxy.
func (w *walk) sent(b *branch) {
	o := w.start.Owner
	if o == nil {
		return
	}
	w.trace.Packet.Owner = o
	b.p.Owner = &skb.Owner{UID: o.User, GIDUnknown: o.Group == nil, Groups: o.Groups}
	action := fmt.Sprintf("sent by user %d", o.User)
	if o.Group != nil {
		b.p.Owner.GID = *o.Group
		action += fmt.Sprintf(", group %d", *o.Group)
	}
	w.hop(b, trace.Hop{Hook: "process", Action: action, Says: o.From})
}
