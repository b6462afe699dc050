package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// agentSelector finds agent pods: it is documented, for policies and for cleaning up.
const agentSelector = "app.kubernetes.io/name=svctrace-agent,app.kubernetes.io/managed-by=kubectl-svctrace"

// agents lists the agent pods of all namespaces.
func (c *cluster) agents(ctx context.Context) ([]corev1.Pod, error) {
	list, err := c.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: agentSelector})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// noAgents requires that no agent pod is left.
func (c *cluster) noAgents(ctx context.Context, t *testing.T) {
	t.Helper()
	left, err := c.agents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range left {
		t.Errorf("pod %s/%s on %s is left (%s)", p.Namespace, p.Name, p.Spec.NodeName, p.Status.Phase)
	}
}

// TestNoAgentIsLeft ends runs in every way and requires that no pod remains; what a killed run leaves, cleanup finds.
func TestNoAgentIsLeft(t *testing.T) {
	c := newCluster(t, "leftovers", lab.IPv4)
	ctx := within(t, 2*time.Minute)
	if err := c.makeWeb(ctx, named("plain")); err != nil {
		t.Fatal(err)
	}
	args := []string{"plain", "--node", "node1", "--node", "node2", "--node", "node3"}

	t.Run("success", func(t *testing.T) {
		r, err := c.run(ctx, append(args, "-v")...)
		if err != nil {
			t.Fatal(err)
		}
		if r.code != exitOK || strings.Count(r.stderr, "the agent itself worked") != len(c.Nodes()) {
			t.Errorf("want success, and the agents' own times with -v:\n%v", r)
		}
		c.noAgents(ctx, t)
	})
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, moment := range moments {
			t.Run(fmt.Sprintf("%s %s", sig, moment.name), func(t *testing.T) {
				r, err := c.interrupt(ctx, args, sig, moment.reached)
				if err != nil {
					t.Fatal(err)
				}
				if r.code != exitInterrupted || r.stdout != "" || strings.TrimSpace(r.stderr) != "interrupted" {
					t.Errorf("want exit code %d and one word:\n%v", exitInterrupted, r)
				}
				c.noAgents(ctx, t)
			})
		}
	}
	t.Run("closed output", func(t *testing.T) {
		cmd, err := c.plugin(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read.Close()
		cmd.Stdout = write
		if err := cmd.Run(); err == nil {
			t.Error("success, though nobody read the answer")
		}
		write.Close()
		c.noAgents(ctx, t)
	})
	t.Run("killed, and cleaned up", func(t *testing.T) {
		_, err := c.interrupt(ctx, args, syscall.SIGKILL, moments[1].reached)
		if err != nil {
			t.Fatal(err)
		}
		left, err := c.agents(ctx)
		if err != nil || len(left) == 0 {
			t.Fatalf("%d pods are left of a killed run, %v: nothing to clean up", len(left), err)
		}
		for _, p := range left {
			if d := p.Spec.ActiveDeadlineSeconds; d == nil || *d > 300 {
				t.Errorf("pod %s would run on and on: its deadline is %v", p.Name, d)
			}
		}
		r, err := c.run(ctx, "cleanup")
		if err != nil || r.code != exitOK {
			t.Fatalf("%v, %v", r, err)
		}
		for _, p := range left {
			if !strings.Contains(r.stdout, p.Name) {
				t.Errorf("cleanup does not name pod %s:\n%v", p.Name, r)
			}
		}
		c.noAgents(ctx, t)
	})
}

// moments are when a run is interrupted.
var moments = []struct {
	name    string
	reached func(c *cluster, ctx context.Context) (bool, error)
}{
	{"when a pod is made", func(c *cluster, ctx context.Context) (bool, error) {
		pods, err := c.agents(ctx)
		return len(pods) > 0, err
	}},
	{"when an agent runs", func(c *cluster, ctx context.Context) (bool, error) {
		pods, err := c.agents(ctx)
		for _, p := range pods {
			if p.Status.Phase == corev1.PodRunning {
				return true, err
			}
		}
		return false, err
	}},
}

// interrupt starts a run and signals the plugin at some moment.
func (c *cluster) interrupt(ctx context.Context, args []string, sig syscall.Signal, reached func(*cluster, context.Context) (bool, error)) (ran, error) {
	cmd, err := c.plugin(ctx, args...)
	if err != nil {
		return ran{}, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return ran{}, err
	}
	err = eventually(ctx, "wait for the moment", func() (bool, error) { return reached(c, ctx) })
	if err == nil {
		err = signalChild(cmd.Process.Pid, sig)
	}
	if err != nil {
		return ran{}, errors.Join(err, cmd.Cancel(), cmd.Wait())
	}
	err = cmd.Wait()
	r := ran{args: args, stdout: stdout.String(), stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code, err = exit.ExitCode(), nil
	}
	return r, err
}

// signalChild signals the child of nsenter, which has entered the lab: nsenter itself would die of the signal and not
// tell the child's exit code.
func signalChild(nsenter int, sig syscall.Signal) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nsenter, nsenter))
	if err != nil {
		return fmt.Errorf("find the plugin's process: %w", err)
	}
	fields := strings.Fields(string(b))
	if len(fields) != 1 {
		return fmt.Errorf("nsenter has the children %q, want one", fields)
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil {
		return err
	}
	return syscall.Kill(pid, sig)
}
