package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// BenchmarkTraceBesideKubectlRun measures, in turns, kubectl svctrace of the worked example and kubectl run --rm -i of
// the same image with a command that ends at once. It reports the medians and their ratio:
//
//	go test -run '^$' -bench KubectlRun -benchtime 15x
func BenchmarkTraceBesideKubectlRun(b *testing.B) {
	l := lab.New(b, lab.Options{Name: fmt.Sprintf("e2e-speed-%d", time.Now().Unix()%100000), Images: []string{built.archive}})
	ctx := within(b, 10*time.Minute)
	if _, err := l.Demo(ctx); err != nil {
		b.Fatal(err)
	}
	c := &cluster{Lab: l}
	if r, err := c.run(ctx, lab.DemoName, "-v"); err != nil {
		b.Fatal(err)
	} else {
		for line := range strings.Lines(r.stderr) {
			if strings.HasPrefix(line, "time:") {
				b.Log(strings.TrimSpace(line))
			}
		}
	}
	var traces, runs []time.Duration
	for b.Loop() {
		begin := time.Now()
		r, err := c.run(ctx, lab.DemoName)
		if err != nil || r.stdout == "" {
			b.Fatalf("%v, %v", r, err)
		}
		traces = append(traces, time.Since(begin))

		begin = time.Now()
		_, err = l.Kubectl(ctx, "run", fmt.Sprintf("bare-%d", len(runs)), "--rm", "-i", "--quiet", "--restart=Never", "--image="+agentImage, "--", "--version")
		if err != nil {
			b.Fatal(err)
		}
		runs = append(runs, time.Since(begin))
	}
	trace, run := median(traces), median(runs)
	b.ReportMetric(trace.Seconds(), "s/trace")
	b.ReportMetric(run.Seconds(), "s/run")
	b.ReportMetric(trace.Seconds()/run.Seconds(), "trace/run")
	b.ReportMetric(0, "ns/op") // both together say nothing
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
