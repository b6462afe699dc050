package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/apistate"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// run traces the Service and hands the answer to show. Agent pods are deleted on every way out, and while show writes.
func (o *runOptions) run(ctx context.Context, show func(*render.Answer) error) (err error) {
	clock := newStopwatch(o.ErrOut, o.verbose > 0)
	objects, err := cluster.Read(ctx, o.client, o.namespace, o.service)
	if err != nil {
		return err
	}
	clock.lap("read the API objects")
	m, err := intent.Build(objects.Service, objects.Slices, objects.Nodes)
	if err != nil {
		return err
	}
	a := &render.Answer{Model: m}
	chosen, err := o.choose(m, a)
	if err != nil {
		return err
	}

	progress := newProgress(o.ErrOut)
	progress.show("starting %s on %s", count(len(chosen), "agent"), namesOf(chosen))
	fleet := launch.Start(ctx, o.client, o.attacher, o.agents, namesOfNodes(chosen))
	closing := sync.OnceValue(fleet.Close)
	defer func() {
		progress.clear()
		if left := closing(); left != nil {
			fmt.Fprintf(o.ErrOut, "warning: %s\n", render.Clean(left.Error()))
			if err == nil {
				err = &exitError{code: exitUnknown}
			}
		}
		clock.lap("deleted the agents")
		clock.total()
	}()

	pods, around := o.surroundings(ctx, objects, chosen)
	a.Unread = around.Unread
	if err := o.survey(ctx, fleet, m, chosen, pods, around, a); err != nil {
		return err
	}
	if err := o.settle(ctx, fleet, chosen, pods, around, a); err != nil {
		return err
	}
	clock.agents(fleet, a.Nodes)
	clock.lap("started the agents and walked")
	progress.clear()

	var deleting sync.WaitGroup
	deleting.Go(func() { _ = closing() }) // the deferred call reports what it returns
	defer deleting.Wait()
	if err := show(a); err != nil {
		return err
	}
	return o.verdict(a)
}

// verdict is the exit code of an answer.
func (o *runOptions) verdict(a *render.Answer) error {
	if worst := a.Report.Worst(); o.failOn != "" && worst.AtLeast(o.failOn) {
		return &exitError{code: exitFindings}
	}
	if a.Report.Incomplete() || len(a.Skipped) > 0 {
		return &exitError{code: exitUnknown}
	}
	return nil
}

// choose picks the nodes to trace.
func (o *runOptions) choose(m *intent.Model, a *render.Answer) ([]intent.Node, error) {
	if len(o.nodes) > 0 {
		chosen, skipped, unknown := m.NamedNodes(o.nodes)
		if len(unknown) > 0 {
			next := "list the nodes with: kubectl get nodes"
			if near := cluster.Near(unknown[0], namesOfNodes(m.Nodes)); len(near) > 0 {
				next = "did you mean " + strings.Join(near, ", ") + "?"
			}
			return nil, usagef(next, "node %s does not exist", strings.Join(unknown, ", "))
		}
		if len(skipped) > 0 {
			return nil, &cluster.Problem{Sentence: skipped[0].Why, Next: "choose another node with --node, or repair this one: kubectl describe node " + skipped[0].Node}
		}
		return chosen, nil
	}
	chosen, skipped, left := m.ChooseNodes(o.maxNodes)
	a.Skipped, a.Left = skipped, left
	if len(chosen) == 0 {
		sentence := "no node can be traced: none is ready"
		if len(m.Nodes) == 0 {
			sentence = "no node can be traced: the cluster has none"
		}
		if len(skipped) > 0 {
			sentence += "; " + skipped[0].Why
		}
		return nil, &cluster.Problem{Sentence: sentence, Next: "see kubectl get nodes"}
	}
	return chosen, nil
}

// podsOf lists the pods of each node, at once. A client pod is a convenience: what cannot be listed is left out.
func (o *runOptions) podsOf(ctx context.Context, nodes []intent.Node) map[string][]corev1.Pod {
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		out = map[string][]corev1.Pod{}
	)
	for _, n := range nodes {
		wg.Go(func() {
			pods, err := cluster.PodsOn(ctx, o.client, o.namespace, n.Name)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[n.Name] = pods
		})
	}
	wg.Wait()
	return out
}

// surroundings reads, at once, the pods of each node and the objects around the Service. Other pods than the Service's own
// namespace's join them: one may have an endpoint's address.
func (o *runOptions) surroundings(ctx context.Context, objects *cluster.Objects, nodes []intent.Node) (map[string][]corev1.Pod, *apistate.State) {
	var (
		wg   sync.WaitGroup
		pods map[string][]corev1.Pod
	)
	wg.Go(func() { pods = o.podsOf(ctx, nodes) })
	around := cluster.Around(ctx, o.client, objects)
	wg.Wait()
	for _, n := range nodes {
		for i := range pods[n.Name] {
			if p := &pods[n.Name][i]; p.Namespace != objects.Service.Namespace {
				around.Pods = append(around.Pods, *p)
			}
		}
	}
	return pods, around
}

// survey asks all agents at once. A node whose agent cannot be had is left out of the answer and named in it; if no agent
// can be had, the first failure is returned.
func (o *runOptions) survey(ctx context.Context, fleet *launch.Fleet, m *intent.Model, chosen []intent.Node, pods map[string][]corev1.Pod, around *apistate.State, a *render.Answer) error {
	ctx, cancel := context.WithTimeout(ctx, o.agents.Timeout+5*time.Second)
	defer cancel()
	nodes := make([]*survey.Node, len(chosen))
	errs := make([]error, len(chosen))
	var wg sync.WaitGroup
	for i, n := range chosen {
		wg.Go(func() {
			agent, err := fleet.Agent(ctx, n.Name)
			if err == nil {
				nodes[i], err = survey.Service(ctx, agent, m, n, pods[n.Name], o.outside)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	a.Nodes = nil
	var failed error
	for i, err := range errs {
		switch {
		case errors.Is(err, context.Canceled):
			return err
		case errors.Is(err, context.DeadlineExceeded) && !isFailure(err):
			err = &launch.Failure{Node: chosen[i].Name, Sentence: fmt.Sprintf("the agent on node %s did not answer within %s", chosen[i].Name, o.agents.Timeout),
				Next: "give it more time with --timeout", Err: err}
			fallthrough
		case err != nil:
			a.Skipped = append(a.Skipped, intent.Skipped{Node: chosen[i].Name, Why: err.Error()})
			if failed == nil {
				failed = err
			}
		default:
			a.Nodes = append(a.Nodes, nodes[i])
		}
	}
	if len(a.Nodes) == 0 {
		return failed
	}
	a.Model = m
	a.Report = diagnose.Compare(m, a.Nodes, around)
	return nil
}

func isFailure(err error) bool {
	var f *launch.Failure
	return errors.As(err, &f)
}

// settle repeats the survey while the endpoints change under it: a difference between the API of before and the kernel of
// after would be no finding. It gives up after some rounds; a Service that never rests is answered as it was last seen.
func (o *runOptions) settle(ctx context.Context, fleet *launch.Fleet, chosen []intent.Node, pods map[string][]corev1.Pod, around *apistate.State, a *render.Answer) error {
	for range 3 {
		if a.Report.Overall() != diagnose.Differs {
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
		if m.Key() == a.Model.Key() {
			return nil
		}
		select { // kube-proxy writes at most once in its minSyncPeriod, 1s by default
		case <-time.After(1500 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		around = cluster.Around(ctx, o.client, objects)
		a.Skipped, a.Unread = nil, around.Unread
		if err := o.survey(ctx, fleet, m, chosen, pods, around, a); err != nil {
			return err
		}
	}
	return nil
}

func namesOfNodes(nodes []intent.Node) []string {
	out := make([]string, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, n.Name)
	}
	return out
}

// namesOf lists nodes for a sentence; many are only counted.
func namesOf(nodes []intent.Node) string {
	if len(nodes) > 4 {
		return fmt.Sprintf("%d nodes", len(nodes))
	}
	return strings.Join(namesOfNodes(nodes), ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
