package e2e

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// namespace is where the tests' objects are.
const namespace = metav1.NamespaceDefault

// everyMode are the proxy modes of a lab's three nodes: what holds for all modes is seen in one lab.
var everyMode = []lab.ProxyMode{lab.IPTables, lab.IPTablesLegacy, lab.NFTables}

// cluster is a lab with the agent's image, a client pod on each node, and the agent's binary for use on the nodes.
type cluster struct {
	*lab.Lab
	client kubernetes.Interface
	// agent is the binary's path in every node's file system.
	agent string
	// clients are pods to connect from, one on each node.
	clients []*lab.Pod
	// beacons counts the Services of sync.
	beacons int
}

// newCluster starts a lab that ends with the test.
func newCluster(t *testing.T, name string, family lab.Family) *cluster {
	t.Helper()
	l := lab.New(t, lab.Options{
		Name: fmt.Sprintf("e2e-%s-%d", name, os.Getpid()), Nodes: len(everyMode), Proxy: everyMode, Family: family, Images: []string{built.archive},
	})
	t.Logf("the lab was up after %v", l.BringUp.Round(10*time.Millisecond))
	config, err := l.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.Burst = 200, 200
	config.WarningHandler = rest.NoWarnings{} // external IPs are deprecated, and used
	c := &cluster{Lab: l, agent: filepath.Join(l.Dir(), "svctrace-agent")}
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	// nodes see the lab's directory for certain
	if err := copyFile(c.agent, built.agent); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	if err := c.unlimitICMP(ctx); err != nil {
		t.Fatal(err)
	}
	c.clients = make([]*lab.Pod, len(everyMode))
	var g errgroup.Group
	for i, n := range l.Nodes() {
		g.Go(func() (err error) {
			c.clients[i], err = l.ClientPod(ctx, "client-"+n.Name, n)
			return err
		})
	}
	g.Go(func() error { return c.webPod(ctx, "sync-beacon", l.Node(3), map[string]string{"app": beaconApp}) })
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// unlimitICMP lets the nodes tell every client that it is refused: by default they tell one in a second, after a few.
func (c *cluster) unlimitICMP(ctx context.Context) error {
	for _, n := range c.Nodes() {
		// the types of messages that are limited: none
		for name, value := range map[string]string{"net.ipv4.icmp_ratemask": "0", "net.ipv6.icmp.ratemask": "\n"} {
			if _, err := n.Sysctl(ctx, name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// webPod makes a pod with the lab's web server and waits until it is ready.
func (c *cluster) webPod(ctx context.Context, name string, node *lab.Node, labels map[string]string) error {
	spec := lab.WebPodSpec()
	spec.NodeName = node.Name
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: spec}
	if _, err := c.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make pod %s: %w", name, err)
	}
	return c.AwaitPod(ctx, namespace, name)
}

// has says whether the lab has an IP family.
func (c *cluster) has(f intent.Family) bool {
	family := c.Options().Family
	return family == lab.Dual || (family == lab.IPv4) == (f == intent.IPv4)
}

// families are the lab's IP families.
func (c *cluster) families() []intent.Family {
	var out []intent.Family
	for _, f := range []intent.Family{intent.IPv4, intent.IPv6} {
		if c.has(f) {
			out = append(out, f)
		}
	}
	return out
}

// nodeAddress is a node's address of one family.
func nodeAddress(n *lab.Node, is4 bool) netip.Addr {
	for _, a := range n.Addresses {
		if a.Is4() == is4 {
			return a
		}
	}
	return netip.Addr{}
}

// nodeNamed finds a node; nil if there is none of that name.
func (c *cluster) nodeNamed(name string) *lab.Node {
	for _, n := range c.Nodes() {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// podAddresses maps the addresses of the running pods that have their own to their names.
func (c *cluster) podAddresses(ctx context.Context) (map[netip.Addr]string, error) {
	pods, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for _, p := range pods.Items {
		if p.Spec.HostNetwork || p.DeletionTimestamp != nil {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			a, err := netip.ParseAddr(ip.IP)
			if err != nil {
				return nil, fmt.Errorf("pod %s: %w", p.Name, err)
			}
			out[a] = p.Name
		}
	}
	return out, nil
}

// within is a context that ends with the test, or after a while.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually asks until the answer is yes.
func eventually(ctx context.Context, what string, ask func() (bool, error)) error {
	for {
		ok, err := ask()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func isNotFound(err error) bool { return apierrors.IsNotFound(err) }

// ignoreNotFound is the error, unless it says that there is no such object.
func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
