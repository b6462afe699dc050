package faults

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cluster"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
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
}

func newBed(t *testing.T) *bed {
	t.Helper()
	l := lab.New(t, lab.Options{Name: fmt.Sprintf("faults-%d", os.Getpid()), Nodes: len(modes), Proxy: modes, Family: lab.Dual})
	b := &bed{Lab: l, client: l.Client()}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	binary := buildAgent(t, l.Dir())
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
		b.agents = append(b.agents, startAgent(t, n, binary))
	}
	return b
}

// diagnose traces a Service as the plugin does.
func (b *bed) diagnose(ctx context.Context, service string) (diagnose.Report, error) {
	objects, err := cluster.Read(ctx, b.client, namespace, service)
	if err != nil {
		return diagnose.Report{}, err
	}
	m, err := intent.Build(objects.Service, objects.Slices, objects.Nodes)
	if err != nil {
		return diagnose.Report{}, err
	}
	type answer struct {
		i   int
		n   *survey.Node
		err error
	}
	answers := make(chan answer)
	for i, n := range m.Nodes {
		go func() {
			pods, err := cluster.PodsOn(ctx, b.client, namespace, n.Name)
			var got *survey.Node
			if err == nil {
				got, err = survey.Service(ctx, b.agents[i], m, n, pods, map[intent.Family]netip.Addr{intent.IPv4: outside4, intent.IPv6: outside6})
			}
			answers <- answer{i, got, err}
		}()
	}
	nodes := make([]*survey.Node, len(m.Nodes))
	for range m.Nodes {
		a := <-answers
		nodes[a.i] = a.n
		if err == nil {
			err = a.err
		}
	}
	if err != nil {
		return diagnose.Report{}, err
	}
	for _, n := range nodes {
		if n.FactsError != "" || n.Facts != nil && len(n.Facts.Unread) > 0 {
			return diagnose.Report{}, fmt.Errorf("facts of %s: %s %v", n.Name, n.FactsError, n.Facts.Unread)
		}
	}
	return diagnose.Compare(m, nodes, nil), nil
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
			fmt.Fprintf(&b, "%s    proof: %s\n", indent, e)
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
