package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/apistate"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/nearest"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

// starts are where the packets of a run start.
type starts struct {
	// nodes get an agent at once.
	nodes []intent.Node
	// clients are those of each node; nil until they are known.
	clients map[string][]intent.Client
	// pods are those of each node, where they were listed to choose clients from.
	pods map[string][]corev1.Pod
	// around are the objects around the Service.
	around *apistate.State
}

// begin decides which nodes get an agent at once: the chosen ones, or with --from those of the clients. What cannot be a
// start is named in the answer.
func (o *runOptions) begin(ctx context.Context, m *intent.Model, a *render.Answer) (*starts, error) {
	if len(o.from) == 0 {
		nodes, err := o.choose(m, a)
		return &starts{nodes: nodes}, err
	}
	s := &starts{clients: map[string][]intent.Client{}}
	for _, from := range o.from {
		if err := o.addOrigin(ctx, m, from, s, a); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// addOrigin adds the clients that one --from names.
func (o *runOptions) addOrigin(ctx context.Context, m *intent.Model, from origin, s *starts, a *render.Answer) error {
	switch from.kind {
	case originExternal:
		nodes, err := o.choose(m, a)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			for _, f := range []intent.Family{intent.IPv4, intent.IPv6} {
				source := o.outside[f]
				if from.address.IsValid() {
					source = from.address
				}
				if intent.FamilyOf(source) == f {
					s.add(n, intent.Client{Kind: intent.FromOutside, Node: n.Name, Source: source})
				}
			}
		}
		return nil
	case originNode:
		return o.addClients(m, from, from.name, []intent.Client{{Kind: intent.FromNode, Node: from.name}}, s, a)
	}
	pod, err := o.podOf(ctx, from)
	if err != nil {
		return err
	}
	why := cluster.NotRunning(pod)
	if why == "" && from.container != "" {
		why = cluster.ContainerNotRunning(pod, from.container)
	}
	if why != "" {
		a.Skipped = append(a.Skipped, intent.Skipped{Node: pod.Spec.NodeName, Client: from.text, Why: why + ", so that no packet can start there"})
		return nil
	}
	return o.addClients(m, from, pod.Spec.NodeName, intent.PodClients(pod, from.container), s, a)
}

// addClients adds clients of one node, if it can be traced.
func (o *runOptions) addClients(m *intent.Model, from origin, node string, clients []intent.Client, s *starts, a *render.Answer) error {
	nodes, skipped, unknown := m.NamedNodes([]string{node})
	switch {
	case len(unknown) > 0:
		return noSuchNode(m, unknown)
	case len(skipped) > 0:
		a.Skipped = append(a.Skipped, intent.Skipped{Node: node, Client: from.text, Why: fmt.Sprintf("--from %s: %s", from.text, skipped[0].Why)})
		return nil
	}
	for _, c := range clients {
		s.add(nodes[0], c)
	}
	return nil
}

// podOf fetches the pod that a --from names, or one of its workload.
func (o *runOptions) podOf(ctx context.Context, from origin) (*corev1.Pod, error) {
	namespace := o.fromNamespace
	if namespace == "" {
		namespace = o.namespace
	}
	if from.kind != originPod {
		return cluster.PodOf(ctx, o.client, namespace, from.kind, from.name)
	}
	pod, err := cluster.Pod(ctx, o.client, namespace, from.name)
	if err != nil || from.container == "" {
		return pod, err
	}
	var names []string
	for _, c := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
		names = append(names, c.Name)
	}
	if !slices.Contains(names, from.container) {
		return nil, usagef("its containers are "+strings.Join(names, ", "), "pod %s/%s has no container %s", pod.Namespace, pod.Name, from.container)
	}
	return pod, nil
}

func (s *starts) add(n intent.Node, c intent.Client) {
	if !slices.ContainsFunc(s.nodes, func(x intent.Node) bool { return x.Name == n.Name }) {
		s.nodes = append(s.nodes, n)
	}
	if !slices.Contains(s.clients[n.Name], c) {
		s.clients[n.Name] = append(s.clients[n.Name], c)
	}
}

// settleClients lists the clients of every node where --from did not say: a pod, the node itself, and an address outside.
func (o *runOptions) settleClients(ctx context.Context, m *intent.Model, s *starts) {
	if s.clients != nil {
		return
	}
	s.clients = map[string][]intent.Client{}
	s.pods = o.podsOf(ctx, s.nodes)
	for _, n := range s.nodes {
		for _, f := range []intent.Family{intent.IPv4, intent.IPv6} {
			for _, c := range m.Clients(n, f, s.pods[n.Name], o.outside[f]) {
				s.add(n, c)
			}
		}
	}
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

// gone says that the pod of a client is no longer there, or why no packet can start in it any more; empty when it is as it
// was, or when it cannot be told.
func (o *runOptions) gone(ctx context.Context, c intent.Client) string {
	if c.Kind != intent.FromPod || c.Invented {
		return ""
	}
	pod, err := cluster.Pod(ctx, o.client, c.PodNamespace, c.Pod)
	var problem *cluster.Problem
	switch {
	case errors.As(err, &problem) && problem.Input:
		return fmt.Sprintf("pod %s/%s is gone: it was deleted during the trace", c.PodNamespace, c.Pod)
	case err != nil:
		return ""
	}
	return cluster.NotRunning(pod)
}

func noSuchNode(m *intent.Model, names []string) error {
	next := "list the nodes with: kubectl get nodes"
	if near := nearest.Names(names[0], namesOfNodes(m.Nodes)); len(near) > 0 {
		next = "did you mean " + strings.Join(near, ", ") + "?"
	}
	return usagef(next, "node %s does not exist", strings.Join(names, ", "))
}
