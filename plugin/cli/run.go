package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
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
	m, err := o.build(ctx, objects)
	if err != nil {
		return err
	}
	if err := pickPaths(m, o.to); err != nil {
		return err
	}
	a := &render.Answer{Model: m}
	from, err := o.begin(ctx, m, a)
	if err != nil {
		return err
	}
	named := a.Skipped

	progress := newProgress(o.ErrOut)
	progress.show("starting %s on %s", count(len(from.nodes), "agent"), namesOf(from.nodes))
	fleet := launch.Start(ctx, o.client, o.attacher, o.agents, namesOfNodes(from.nodes))
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

	o.surroundings(ctx, objects, m, from)
	if err := o.survey(ctx, fleet, m, from, a); err != nil {
		return err
	}
	if err := o.settle(ctx, fleet, from, named, a); err != nil {
		return err
	}
	if err := o.probeAll(ctx, fleet, a); err != nil {
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

// surroundings lists the clients and reads the objects around the Service, at once. Pods of other namespaces on the traced
// nodes join them: one may have an endpoint's address.
func (o *runOptions) surroundings(ctx context.Context, objects *cluster.Objects, m *intent.Model, from *starts) {
	var wg sync.WaitGroup
	wg.Go(func() { o.settleClients(ctx, m, from) })
	around := cluster.Around(ctx, o.client, objects)
	wg.Wait()
	for _, n := range from.nodes {
		for i := range from.pods[n.Name] {
			if p := &from.pods[n.Name][i]; p.Namespace != objects.Service.Namespace {
				around.Pods = append(around.Pods, *p)
			}
		}
	}
	from.around = around
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
			return nil, noSuchNode(m, unknown)
		}
		if len(skipped) > 0 && len(chosen) == 0 {
			return nil, &cluster.Problem{Sentence: skipped[0].Why, Next: "choose another node with --node, or repair this one: kubectl describe node " + skipped[0].Node}
		}
		for _, s := range skipped { // several clients may choose the nodes
			if !slices.Contains(a.Skipped, s) {
				a.Skipped = append(a.Skipped, s)
			}
		}
		return chosen, nil
	}
	chosen, skipped, left := m.ChooseNodes(o.maxNodes)
	a.Skipped, a.Left = append(a.Skipped, skipped...), left
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

// survey asks the agents of all clients' nodes at once. A node whose agent cannot be had is left out of the answer and named
// in it; if none of them can be had, the first failure is returned.
func (o *runOptions) survey(ctx context.Context, fleet *launch.Fleet, m *intent.Model, from *starts, a *render.Answer) error {
	ctx, cancel := context.WithTimeout(ctx, 2*o.agents.Timeout+5*time.Second) // agents on the way start one after the other
	defer cancel()
	agents := newReach(fleet, m, from.nodes, o.maxNodes)
	guide := journey.NewGuide(m, agents)
	nodes := make([]*survey.Node, len(from.nodes))
	errs := make([]error, len(from.nodes))
	var wg sync.WaitGroup
	for i, n := range from.nodes {
		wg.Go(func() {
			agent, err := fleet.Agent(ctx, n.Name)
			if err == nil {
				nodes[i], err = survey.Service(ctx, agent, guide, m, n, from.clients[n.Name])
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
			err = &launch.Failure{Node: from.nodes[i].Name, Sentence: fmt.Sprintf("the agent on node %s did not answer within %s", from.nodes[i].Name, o.agents.Timeout),
				Next: "give it more time with --timeout", Err: err}
			fallthrough
		case err != nil:
			a.Skipped = append(a.Skipped, intent.Skipped{Node: from.nodes[i].Name, Why: err.Error()})
			if failed == nil {
				failed = err
			}
		default:
			a.Nodes = append(a.Nodes, nodes[i])
		}
	}
	if len(a.Nodes) == 0 && failed != nil {
		return failed
	}
	a.Skipped = append(a.Skipped, agents.skipped(a.Skipped)...)
	if err := o.passed(ctx, agents, guide, m, a); err != nil {
		return err
	}
	o.explainGone(ctx, a.Nodes)
	a.Model, a.Unread = m, from.around.Unread
	a.Report = diagnose.Compare(m, a.Nodes, from.around)
	return nil
}

// passed adds the nodes that walks only came to, and the time that the walks took to all nodes.
func (o *runOptions) passed(ctx context.Context, agents *reach, guide *journey.Guide, m *intent.Model, a *render.Answer) error {
	for _, name := range guide.Visited() {
		if slices.ContainsFunc(a.Nodes, func(n *survey.Node) bool { return n.Name == name }) {
			continue
		}
		n, _ := m.Node(name)
		agent, err := agents.On(ctx, name)
		var node *survey.Node
		if err == nil {
			node, err = survey.Passed(ctx, agent, m, n)
		}
		switch {
		case errors.Is(err, context.Canceled):
			return err
		case err != nil:
			a.Skipped = append(a.Skipped, intent.Skipped{Node: name, Why: err.Error()})
		default:
			a.Nodes = append(a.Nodes, node)
		}
	}
	for _, n := range a.Nodes {
		n.Micros += guide.Micros(n.Name)
	}
	return nil
}

// explainGone says of walks that failed that their pod went away meanwhile, if it did.
func (o *runOptions) explainGone(ctx context.Context, nodes []*survey.Node) {
	for _, n := range nodes {
		for i := range n.Walks {
			if w := &n.Walks[i]; w.Error != nil {
				if why := o.gone(ctx, w.Client); why != "" {
					w.Error = &wire.Error{Code: w.Error.Code, Message: why}
				}
			}
		}
	}
}

func isFailure(err error) bool {
	var f *launch.Failure
	return errors.As(err, &f)
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
