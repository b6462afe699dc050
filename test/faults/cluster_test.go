package faults

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// modes are the proxy modes of the nodes: node1 runs iptables on nft, node2 on legacy, node3 nftables.
var modes = []lab.ProxyMode{lab.IPTables, lab.IPTablesLegacy, lab.NFTables}

const namespace = "default"

// bed is the lab that all faults are caused in, one after the other.
type bed struct {
	*lab.Lab
	client  kubernetes.Interface
	agents  []*agent
	clients []*lab.Pod
	demo    lab.Demo
	// t is the test that the agents end with, binary the agent's program; spare is an agent that another one stands in for.
	t      *testing.T
	binary string
	spare  *agent
}

func newBed(t *testing.T) *bed {
	t.Helper()
	l := lab.New(t, lab.Options{Name: fmt.Sprintf("faults-%d", os.Getpid()), Nodes: len(modes), Proxy: modes, Family: lab.Dual})
	b := &bed{Lab: l, client: l.Client(), t: t}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b.binary = buildAgent(t, l.Dir())
	var err error
	if b.demo, err = l.Demo(ctx); err != nil {
		t.Fatal(err)
	}
	for _, n := range l.Nodes() {
		pod, err := l.ClientPod(ctx, "client-"+n.Name, n)
		if err != nil {
			t.Fatal(err)
		}
		b.clients = append(b.clients, pod)
		b.agents = append(b.agents, startAgent(t, n, b.binary))
	}
	if err := b.forgetEverywhere(ctx); err != nil { // of connections from before there were rules
		t.Fatal(err)
	}
	return b
}

// On is the agent on a node, as journeys ask for it.
func (b *bed) On(_ context.Context, node string) (journey.Agent, error) {
	if a := b.agentOn(node); a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("there is no node %s", node)
}

func (b *bed) agentOn(node string) *agent {
	for i, n := range b.Nodes() {
		if n.Name == node {
			return b.agents[i]
		}
	}
	return nil
}

// untraced looks at a Service that no node translates, as the plugin does.
func (b *bed) untraced(ctx context.Context, service string) (*render.Answer, error) {
	objects, err := cluster.Read(ctx, b.client, namespace, service)
	if err != nil {
		return nil, err
	}
	var nothing *intent.UntranslatableError
	if m, err := intent.Build(objects.Service, objects.Slices, objects.Nodes); !errors.As(err, &nothing) {
		return nil, fmt.Errorf("the Service is translated: %+v, %w", m, err)
	}
	return &render.Answer{Report: diagnose.Report{Findings: diagnose.Untranslatable(cluster.Around(ctx, b.client, objects))}}, nil
}

// diagnose traces a Service as the plugin does: again while its endpoints change or a kube-proxy is just writing.
func (b *bed) diagnose(ctx context.Context, service string) (*render.Answer, error) {
	for range 3 {
		a, err := b.survey(ctx, service)
		if err != nil || a.Report.Overall() != diagnose.Differs {
			return a, err
		}
		m, err := b.model(ctx, service)
		if err != nil || m.Key() == a.Model.Key() && !slices.ContainsFunc(a.Nodes, (*survey.Node).Writing) {
			return a, err
		}
		select {
		case <-time.After(1500 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return b.survey(ctx, service)
}

func (b *bed) model(ctx context.Context, service string) (*intent.Model, error) {
	objects, err := cluster.Read(ctx, b.client, namespace, service)
	if err != nil {
		return nil, err
	}
	return intent.Build(objects.Service, objects.Slices, objects.Nodes)
}

// probe opens real connections from the client pod of a node to the first access path, as --probe does to all.
func (b *bed) probe(ctx context.Context, a *render.Answer, on *lab.Node) error {
	i := slices.IndexFunc(a.Nodes, func(n *survey.Node) bool { return n.Name == on.Name })
	if i < 0 {
		return fmt.Errorf("%s was not traced", on)
	}
	n := *a.Nodes[i]
	n.Walks = slices.DeleteFunc(slices.Clone(n.Walks), func(w survey.Walk) bool { return w.Path != a.Model.Paths[0] || w.Client.Kind != intent.FromPod })
	probes, err := survey.Probes(ctx, b.agents[on.Index-1], &n, 8, time.Second)
	if err != nil {
		return err
	}
	if len(probes) != 1 || probes[0].Error != nil {
		return fmt.Errorf("probes: %+v", probes)
	}
	a.Report.AddProbes(a.Model, probes)
	a.Probes = probes
	return nil
}

func (b *bed) survey(ctx context.Context, service string) (*render.Answer, error) {
	objects, err := cluster.Read(ctx, b.client, namespace, service)
	if err != nil {
		return nil, err
	}
	m, err := intent.Build(objects.Service, objects.Slices, objects.Nodes)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range b.Nodes() {
		names = append(names, n.Name)
	}
	chosen, _, _ := m.NamedNodes(names)
	var (
		wg    sync.WaitGroup
		guide = journey.NewGuide(m, b)
		out   = &render.Answer{Model: m, Nodes: make([]*survey.Node, len(chosen))}
		errs  = make([]error, len(chosen))
	)
	for i, n := range chosen {
		wg.Go(func() {
			var pods []corev1.Pod
			if pods, errs[i] = cluster.PodsOn(ctx, b.client, namespace, n.Name); errs[i] != nil {
				return
			}
			clients := append(m.Clients(n, intent.IPv4, pods, outside4), m.Clients(n, intent.IPv6, pods, outside6)...)
			out.Nodes[i], errs[i] = survey.Service(ctx, b.agentOn(n.Name), guide, m, n, clients)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, n := range out.Nodes {
		if n.FactsError != "" && !b.agentOn(n.Name).factless || n.Facts != nil && len(n.Facts.Unread) > 0 {
			return nil, fmt.Errorf("facts of %s: %s %v", n.Name, n.FactsError, n.Facts.Unread)
		}
	}
	out.Report = diagnose.Compare(m, out.Nodes, cluster.Around(ctx, b.client, objects))
	return out, nil
}

// The outside client's addresses.
var (
	outside4 = netip.MustParseAddr("10.250.0.100")
	outside6 = netip.MustParseAddr("fd00:250::100")
)

// loud are the IDs of the findings that are warnings or errors, or have one among their consequences.
func loud(r diagnose.Report) []string {
	var out []string
	for _, f := range r.Findings {
		if severityOf(f).AtLeast(diagnose.Warning) {
			out = append(out, f.ID)
		}
	}
	return out
}

func severityOf(f diagnose.Finding) diagnose.Severity {
	return diagnose.Report{Findings: []diagnose.Finding{f}}.Worst()
}

// text writes findings for a test's log.
func text(fs []diagnose.Finding) string {
	var b strings.Builder
	var write func(f diagnose.Finding, indent string)
	write = func(f diagnose.Finding, indent string) {
		fmt.Fprintf(&b, "%s%s %s %v: %s\n", indent, f.Severity, f.ID, f.Nodes, f.Sentence)
		for _, e := range f.Evidence {
			fmt.Fprintf(&b, "%s    proof: %s\n", indent, e.Text)
		}
		for _, c := range f.Consequences {
			write(c, indent+"  -> ")
		}
	}
	for _, f := range fs {
		write(f, "  ")
	}
	return b.String()
}

// clientIP is the IPv4 address of the client pod on node1; "" when it cannot be read.
func (b *bed) clientIP(ctx context.Context) string {
	pod, err := b.client.CoreV1().Pods(namespace).Get(ctx, b.clients[0].Name, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return pod.Status.PodIP
}

// podOn is the Service's pod on a node, nil when it has none there.
func (b *bed) podOn(node string) *corev1.Pod {
	for i := range b.demo.Pods {
		if b.demo.Pods[i].Spec.NodeName == node {
			return &b.demo.Pods[i]
		}
	}
	return nil
}
