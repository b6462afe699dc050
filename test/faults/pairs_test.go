package faults

import (
	"slices"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// pairs are faults, by their names, that are caused at once: both must be found, and no third.
var pairs = [][2]string{
	{"FORWARD drops", "an element is gone"},
	{"forwarding is off", "every node excluded from load balancers"},
	{"firewalld drops", "ephemeral ports"},
	{"kube-proxy is down, the rules are right", "hairpin is off"},
	{"a rule's probability was changed", "two modes"},
}

// twoAtOnce causes them in the lab of TestFaults.
func twoAtOnce(t *testing.T, b *bed, all []fault) {
	for _, p := range pairs {
		t.Run(p[0]+" + "+p[1], func(t *testing.T) {
			ctx, cancel := contextFor(t, 80*time.Second)
			defer cancel()
			var want []string
			var faults []fault
			for _, name := range p {
				i := slices.IndexFunc(all, func(f fault) bool { return f.name == name })
				if i < 0 || all[i].service != "" {
					t.Fatalf("no fault of web is named %q", name)
				}
				faults, want = append(faults, all[i]), append(want, all[i].want)
			}
			for _, f := range faults {
				if err := f.cause(ctx, b, b.Node(max(f.node, 1))); err != nil {
					t.Error(err)
				}
			}
			if a, err := b.diagnose(ctx, lab.DemoName); err != nil {
				t.Error(err)
			} else if got := unique(loud(a.Report)); !slices.Equal(got, unique(want)) {
				t.Errorf("found %v, want %v:\n%s", got, want, text(a.Report.Findings))
			}
			for _, f := range slices.Backward(faults) {
				if err := sequence(f.repair, forget)(ctx, b, b.Node(max(f.node, 1))); err != nil {
					t.Fatal(err)
				}
			}
			b.awaitHealthy(t, ctx, "")
		})
	}
}

func unique(ids []string) []string {
	out := slices.Clone(ids)
	slices.Sort(out)
	return slices.Compact(out)
}
