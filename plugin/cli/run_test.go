package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch/launchtest"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with testdata/name, or rewrites it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, d)
	}
}

// traced runs the default verb in a format and returns its standard output and exit code.
func traced(t *testing.T, s *shop, f render.Format) ([]byte, int) {
	t.Helper()
	o, out, errOut := s.options(t)
	err := o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, f, false) })
	if errOut.Len() > 0 {
		t.Errorf("standard error: %s", errOut)
	}
	if left := s.Left(); len(left) > 0 {
		t.Errorf("pods left: %v", left)
	}
	return out.Bytes(), codeOf(err)
}

func TestAnswers(t *testing.T) {
	tests := map[string]struct {
		change func(*shop)
		code   int
	}{
		"healthy": {func(*shop) {}, exitOK},
		"rule-of-one-endpoint-deleted": {func(s *shop) {
			s.kernels["node1"].endpoints = []string{"10.244.1.10:8080"}
		}, exitFindings},
		"kube-proxy-stopped-and-scaled": {func(s *shop) {
			if err := s.Client.Tracker().Update(slicesResource, webSlice("10.244.1.10", "10.244.2.15", "10.244.1.30"), "shop"); err != nil {
				panic(err)
			}
			s.kernels["node2"].endpoints = []string{"10.244.1.10:8080", "10.244.2.15:8080", "10.244.1.30:8080"}
		}, exitFindings},
		"scaled-down-behind-a-stopped-kube-proxy": {func(s *shop) {
			if err := s.Client.Tracker().Update(slicesResource, webSlice("10.244.1.10"), "shop"); err != nil {
				panic(err)
			}
			s.kernels["node2"].endpoints = []string{"10.244.1.10:8080"}
		}, exitFindings},
		"chain-flushed":   {func(s *shop) { s.kernels["node1"].walk = untouched }, exitFindings},
		"not-understood":  {func(s *shop) { s.kernels["node2"].walk = notUnderstood }, exitUnknown},
		"agent-may-not":   {func(s *shop) { s.kernels["node2"].walk = mayNot }, exitUnknown},
		"no-endpoints":    {noEndpoints, exitFindings},
		"image-not-there": {func(s *shop) { s.Status = brokenOn("node2") }, exitUnknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newShop()
			tt.change(s)
			out, code := traced(t, s, render.Human)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for i, line := range strings.Split(string(out), "\n") {
				if n := len([]rune(line)); n > 80 {
					t.Errorf("line %d has %d columns: %s", i+1, n, line)
				}
			}
			golden(t, name+".txt", out)
		})
	}
}

func notUnderstood(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
	t := (&kernel{endpoints: []string{"10.244.1.10:8080"}}).answer(r)
	t.Outcomes[0].Verdict, t.Outcomes[0].Probability = trace.Undetermined, nil
	t.Outcomes[0].Destination = r.Destination
	t.Outcomes[0].Unknown = []trace.Unknown{{What: "match bpf", Where: "ip filter FORWARD rule 3"}}
	return t, nil
}

func mayNot(wire.WalkRequest) (*trace.Trace, *wire.Error) {
	return nil, &wire.Error{Code: wire.CodePermission, Message: "reading nftables needs CAP_NET_ADMIN"}
}

func noEndpoints(s *shop) {
	if err := s.Client.Tracker().Update(slicesResource, webSlice(), "shop"); err != nil {
		panic(err)
	}
	for _, k := range s.kernels {
		k.walk = func(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
			t, _ := untouched(r)
			t.Outcomes[0].Verdict, t.Outcomes[0].RejectWith = trace.Rejected, "icmp-port-unreachable"
			return t, nil
		}
	}
	for _, a := range s.Agents {
		a.Flows = nil
	}
}

func brokenOn(bad string) func(string) corev1.PodStatus {
	return func(node string) corev1.PodStatus {
		if node == bad {
			return launchtest.Waiting("ErrImagePull", "not found")
		}
		return launchtest.Running()
	}
}

func TestWideShowsEveryRule(t *testing.T) {
	out, _ := traced(t, newShop(), render.Wide)
	golden(t, "healthy-wide.txt", out)
}

func TestYAMLIsTheWholeModel(t *testing.T) {
	out, code := traced(t, newShop(), render.YAML)
	if code != exitOK {
		t.Errorf("exit code %d", code)
	}
	golden(t, "healthy.yaml", out)
}

func TestJSONReadsBackAndExitCodeIsTheSame(t *testing.T) {
	s := newShop()
	s.kernels["node1"].endpoints = []string{"10.244.1.10:8080"}
	out, code := traced(t, s, render.JSON)
	if code != exitFindings {
		t.Errorf("exit code %d", code)
	}
	var st render.ServiceTrace
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&st); err != nil {
		t.Fatal(err)
	}
	if st.Result != "differs" || len(st.Walks) != 12 || len(st.Findings) != 1 || st.Findings[0].ID != "stale-node-rules" {
		t.Errorf("result %s, %d walks, findings %+v", st.Result, len(st.Walks), st.Findings)
	}
}

func TestAssertSaysOkOrFailedForEachPath(t *testing.T) {
	s := newShop()
	o, out, _ := s.options(t)
	if code := codeOf(o.assert(t.Context())); code != exitOK {
		t.Errorf("healthy: exit code %d", code)
	}
	if got := out.String(); strings.Count(got, "ok ") != 2 || strings.Contains(got, "failed") {
		t.Errorf("healthy: %s", got)
	}
	s.kernels["node1"].endpoints = []string{"10.244.1.10:8080"}
	o, out, _ = s.options(t)
	o.failOn = ""
	if code := codeOf(o.assert(t.Context())); code != exitFindings {
		t.Errorf("broken: exit code %d", code)
	}
	golden(t, "assert.txt", out.Bytes())
}

func TestWalksStartFromPodNodeAndOutside(t *testing.T) {
	s := newShop()
	var got []wire.WalkRequest
	seen := make(chan wire.WalkRequest, 100)
	for _, k := range s.kernels {
		k.walk = func(r wire.WalkRequest) (*trace.Trace, *wire.Error) { seen <- r; return k.answer(r), nil }
	}
	traced(t, s, render.Human)
	close(seen)
	for r := range seen {
		if r.Node == "node1" && r.Destination == netip.MustParseAddrPort("10.250.0.11:30080") {
			got = append(got, r)
		}
	}
	want := map[string]string{"10.244.1.20:0": "", "invalid AddrPort": "", "192.0.2.1:0": "eth0"}
	if len(got) != 3 {
		t.Fatalf("got %+v", got)
	}
	for _, r := range got {
		if in, ok := want[r.Source.String()]; !ok || in != r.In {
			t.Errorf("from %s by %q", r.Source, r.In)
		}
	}
}

func TestNodeWithoutPodsIsAskedFromAnUnusedAddress(t *testing.T) {
	s := newShop(node("node3", 3, true))
	s.kernels["node3"] = s.kernels["node1"]
	s.Agents["node3"] = s.Agents["node1"]
	o, out, _ := s.options(t)
	o.nodes = []string{"node3"}
	if err := o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, render.Human, false) }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "an unused pod address 10.244.3.254") {
		t.Errorf("got\n%s", out)
	}
}

func TestUnusedAddressThatCannotBeAPodIsNoClient(t *testing.T) {
	s := newShop(node("node3", 3, true))
	s.kernels["node3"], s.Agents["node3"] = s.kernels["node1"], s.Agents["node1"]
	s.kernels["node1"].walk = func(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
		if r.Source.Addr() == netip.MustParseAddr("10.244.3.254") {
			return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "there is no route back to 10.244.3.254"}
		}
		return (&kernel{endpoints: s.kernels["node1"].endpoints}).answer(r), nil
	}
	o, out, _ := s.options(t)
	o.nodes = []string{"node3"}
	err := o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, render.Human, false) })
	if code := codeOf(err); code != exitOK || strings.Contains(out.String(), "10.244.3.254") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestFailuresLeaveStandardOutputEmpty(t *testing.T) {
	tests := map[string]struct {
		change func(*shop, *runOptions)
		code   int
		says   []string
	}{
		"no such Service":      {func(_ *shop, o *runOptions) { o.service = "wep" }, exitUsage, []string{"Service shop/wep does not exist", "did you mean web?"}},
		"in another namespace": {func(_ *shop, o *runOptions) { o.namespace = "other" }, exitUsage, []string{"other/web does not exist: there is no namespace other", "did you mean shop/web?", "-n shop"}},
		"headless": {func(s *shop, _ *runOptions) {
			s.service(func(v *corev1.Service) { v.Spec.ClusterIP, v.Spec.ClusterIPs = "None", nil })
		}, exitUsage, []string{"headless", "DNS answers", "kubectl get endpointslices"}},
		"ExternalName": {func(s *shop, _ *runOptions) {
			s.service(func(v *corev1.Service) { v.Spec.Type, v.Spec.ExternalName = "ExternalName", "db.example.com" })
		}, exitUsage, []string{"CNAME to db.example.com", "nslookup"}},
		"unknown node": {func(_ *shop, o *runOptions) { o.nodes = []string{"nod1"} }, exitUsage, []string{"node nod1 does not exist", "did you mean node1"}},
		"image not there": {func(s *shop, _ *runOptions) {
			s.Status = func(string) corev1.PodStatus { return launchtest.Waiting("ErrImagePull", "not found") }
		}, exitUnknown, []string{"cannot pull the agent's image agent:test", "--image"}},
		"cannot attach": {func(s *shop, _ *runOptions) { s.AttachError = errors.New("no way to the kubelet") }, exitUnknown, []string{"attaching to the agent", "no way to the kubelet"}},
		"no node is ready": {func(s *shop, _ *runOptions) {
			for i, name := range []string{"node1", "node2"} {
				if err := s.Client.Tracker().Update(nodesResource, node(name, i+1, false), ""); err != nil {
					panic(err)
				}
			}
		}, exitUnknown, []string{"no node can be traced", "kubelet stopped posting", "kubectl get nodes"}},
		"named node is not ready": {func(s *shop, o *runOptions) {
			o.nodes = []string{"node2"}
			if err := s.Client.Tracker().Update(nodesResource, node("node2", 2, false), ""); err != nil {
				panic(err)
			}
		}, exitUnknown, []string{"node2 is not ready", "--node"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newShop()
			o, out, errOut := s.options(t)
			tt.change(s, o)
			err := o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, render.Human, false) })
			report(errOut, err)
			if code := codeOf(err); code != tt.code {
				t.Errorf("exit code %d, want %d (%v)", code, tt.code, err)
			}
			if out.Len() > 0 {
				t.Errorf("standard output: %s", out)
			}
			for _, want := range tt.says {
				if !strings.Contains(errOut.String(), want) {
					t.Errorf("%q is not in: %s", want, errOut)
				}
			}
			if left := s.Left(); len(left) > 0 {
				t.Errorf("pods left: %v", left)
			}
		})
	}
}

func TestNodeThatIsNotReadyIsNamedAndTheAnswerIsNotCertain(t *testing.T) {
	s := newShop()
	if err := s.Client.Tracker().Update(nodesResource, node("node2", 2, false), ""); err != nil {
		t.Fatal(err)
	}
	out, code := traced(t, s, render.Human)
	if code != exitUnknown || !bytes.Contains(out, []byte("NOT TRACED  node node2 is not ready: kubelet stopped posting")) {
		t.Errorf("exit code %d, output\n%s", code, out)
	}
}

func TestInterruptDeletesThePods(t *testing.T) {
	s := newShop()
	for _, a := range s.Agents {
		a.Silent = true
	}
	o, out, _ := s.options(t)
	ctx, cancel := context.WithCancel(t.Context())
	o.attacher = attachFunc(func(ctx context.Context, ns, pod string, in io.Reader, w, e io.Writer) error {
		cancel()
		return s.Attach(ctx, ns, pod, in, w, e)
	})
	err := o.run(ctx, func(*render.Answer) error { t.Error("an answer is shown"); return nil })
	if code := codeOf(err); code != exitInterrupted {
		t.Errorf("exit code %d (%v)", code, err)
	}
	if out.Len() > 0 || len(s.Left()) > 0 || len(s.Created()) == 0 {
		t.Errorf("output %q, left %v, created %d", out, s.Left(), len(s.Created()))
	}
}

func TestPanicDeletesThePods(t *testing.T) {
	s := newShop()
	o, _, _ := s.options(t)
	func() {
		defer func() { _ = recover() }()
		_ = o.run(t.Context(), func(*render.Answer) error { panic("a fault in rendering") })
	}()
	if len(s.Left()) > 0 || len(s.Created()) == 0 {
		t.Errorf("left %v, created %d", s.Left(), len(s.Created()))
	}
}

func TestEndpointsThatChangeDuringATraceAreNoDifference(t *testing.T) {
	s := newShop()
	fresh := []string{"10.244.1.10:8080", "10.244.2.15:8080", "10.244.1.30:8080"}
	first := true
	s.kernels["node1"].walk = func(r wire.WalkRequest) (*trace.Trace, *wire.Error) {
		if first { // the API changes after it was read, and the kernel follows
			first = false
			if err := s.Client.Tracker().Update(slicesResource, webSlice("10.244.1.10", "10.244.2.15", "10.244.1.30"), "shop"); err != nil {
				t.Error(err)
			}
			s.kernels["node2"].endpoints = fresh
		}
		return (&kernel{endpoints: fresh}).answer(r), nil
	}
	o, _, _ := s.options(t)
	o.nodes = []string{"node1"}
	if err := o.run(t.Context(), func(a *render.Answer) error {
		if a.Report.Overall() != diagnose.OK {
			t.Errorf("findings %+v", a.Report.Findings)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

type attachFunc func(context.Context, string, string, io.Reader, io.Writer, io.Writer) error

func (f attachFunc) Attach(ctx context.Context, ns, pod string, in io.Reader, out, errOut io.Writer) error {
	return f(ctx, ns, pod, in, out, errOut)
}

func (s *shop) service(change func(*corev1.Service)) {
	v := webService()
	change(v)
	if err := s.Client.Tracker().Update(servicesResource, v, "shop"); err != nil {
		panic(err)
	}
}

var (
	slicesResource   = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
	nodesResource    = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	servicesResource = schema.GroupVersionResource{Version: "v1", Resource: "services"}
)

func TestNamedNodeThatIsNotReadyIsNamedAndTheOthersAreTraced(t *testing.T) {
	s := newShop(node("node3", 3, false))
	o, out, _ := s.options(t)
	o.nodes = []string{"node3", "node1"}
	err := o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, render.Human, false) })
	says := strings.Join(strings.Fields(out.String()), " ")
	if codeOf(err) != exitUnknown || !strings.Contains(says, "node node3 is not ready") || !strings.Contains(says, "node1 itself") {
		t.Errorf("exit code %d\n%s", codeOf(err), out)
	}
	o.nodes = []string{"node3"}
	if err := o.run(t.Context(), func(*render.Answer) error { return nil }); codeOf(err) != exitUnknown || !strings.Contains(err.Error(), "node node3 is not ready") {
		t.Errorf("alone: %v", err)
	}
}
