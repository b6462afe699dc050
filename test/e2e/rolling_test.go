package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// TestRollingUpdateIsNoFinding traces a Service again and again while its Deployment is rolled: pods come and go, and at no
// moment is anything wrong.
func TestRollingUpdateIsNoFinding(t *testing.T) {
	f := &faulty{cluster: newCluster(t, "rolling", lab.IPv4)}
	ctx := within(t, 8*time.Minute)
	var err error
	if f.web, err = f.Demo(ctx); err != nil {
		t.Fatal(err)
	}
	if err := scaleTo(4)(ctx, f); err != nil {
		t.Fatal(err)
	}
	if err := f.sync(ctx); err != nil {
		t.Fatal(err)
	}
	f.healthy(ctx, t)
	traced, rolling := 0, 0
	for round := range 6 {
		if err := f.roll(ctx, round); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			time.Sleep(time.Duration(traced*170%600) * time.Millisecond) // so that traces begin at different moments
			busy, err := f.rolling(ctx)
			if err != nil {
				t.Fatal(err)
			}
			a, r := f.trace(ctx, t, f.traceArgs(lab.DemoName)...)
			traced++
			if busy {
				rolling++
			}
			for id, d := range findings(a) {
				if d.Severity != "info" {
					t.Errorf("round %d: %s %s: %s\n%+v", round, d.Severity, id, d.Message, d)
				}
			}
			if r.code != 0 && !(r.code == exitUnknown && clientWentAway(a)) {
				t.Errorf("round %d: exit code %d\n%s", round, r.code, r.stderr)
				for _, n := range a.NotTraced {
					t.Errorf("  not traced: %+v", n)
				}
				for _, w := range a.Walks {
					if w.Error != nil {
						t.Errorf("  from %v: %s", w.Client, w.Error.Message)
						continue
					}
					for _, r := range w.Replies {
						if r.Return == string(journey.Unclear) {
							t.Errorf("  from %v, a reply: %s", w.Client, r.Reason)
						}
					}
				}
			}
		}
	}
	if rolling == 0 {
		t.Errorf("none of %d traces began while the Deployment was rolled", traced)
	}
	t.Logf("%d of %d traces began while the Deployment was rolled", rolling, traced)
}

// roll changes the pod template, so that every pod is replaced.
func (f *faulty) roll(ctx context.Context, round int) error {
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"round":"%d"}}}}}`, round)
	_, err := f.client.AppsV1().Deployments(lab.DemoNamespace).Patch(ctx, lab.DemoName, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// rolling reports whether pods of the old template are still there, or new ones not yet ready.
func (f *faulty) rolling(ctx context.Context) (bool, error) {
	d, err := f.client.AppsV1().Deployments(lab.DemoNamespace).Get(ctx, lab.DemoName, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	s := d.Status
	return s.ObservedGeneration < d.Generation || s.UpdatedReplicas < *d.Spec.Replicas || s.Replicas > s.UpdatedReplicas || s.AvailableReplicas < *d.Spec.Replicas, nil
}

// clientWentAway tells whether a pod that a walk was to start in was deleted meanwhile, and the answer says so: then the trace
// is not whole, and its exit code tells.
func clientWentAway(a *render.ServiceTrace) bool {
	return slices.ContainsFunc(a.Walks, func(w render.Walk) bool {
		return w.Error != nil && strings.Contains(w.Error.Message, "pod "+w.Client.Pod)
	})
}
