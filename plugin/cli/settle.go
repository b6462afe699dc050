package cli

import (
	"context"
	"slices"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// settle repeats the survey while the endpoints change under it, or a kube-proxy is just writing: a difference between the
// API of before and the kernel of after, or the other way round, would be no finding, and an endpoint that went away between
// a packet and its answer is no unknown. It gives up after some rounds; a Service that never rests is answered as it was last
// seen.
func (o *runOptions) settle(ctx context.Context, fleet *launch.Fleet, from *starts, named []intent.Skipped, a *render.Answer) error {
	for round := range 3 {
		if a.Report.Overall() == diagnose.OK {
			return nil
		}
		objects, err := cluster.Read(ctx, o.client, o.namespace, o.service)
		if err != nil {
			return err
		}
		m, err := intent.Build(objects.Service, objects.Slices, objects.Nodes)
		if err != nil {
			return err
		}
		if err := pickPaths(m, o.to); err != nil {
			return err
		}
		moved := m.Key() != a.Model.Key() || slices.ContainsFunc(a.Nodes, (*survey.Node).Writing)
		if !moved && (round > 0 || !endWentAway(a.Nodes)) {
			return nil
		}
		select { // kube-proxy writes at most once in its minSyncPeriod, 1s by default
		case <-time.After(1500 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		from.around = cluster.Around(ctx, o.client, objects)
		a.Skipped = slices.Clone(named)
		if err := o.survey(ctx, fleet, m, from, a); err != nil {
			return err
		}
	}
	return nil
}

// endWentAway reports whether a packet was delivered to an end that was not there any more when its answer was to start.
func endWentAway(nodes []*survey.Node) bool {
	return slices.ContainsFunc(nodes, func(n *survey.Node) bool {
		return slices.ContainsFunc(n.Walks, func(w survey.Walk) bool {
			return slices.ContainsFunc(w.Replies, func(r journey.Reply) bool { return r.NotStarted })
		})
	})
}
