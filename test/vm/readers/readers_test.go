//go:build linux

package readers

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/vm"
)

var scenes = map[string]string{
	"legacy iptables": node + strings.ReplaceAll(iptables, "IPTABLES", "iptables-legacy"),
	"iptables-nft":    node + strings.ReplaceAll(iptables, "IPTABLES", "iptables-nft"),
	"nftables":        node + nftables,
}

// asked is one question of a scene.
type asked struct{ scene, packet string }

func TestAnswersAreTheSameOnAnOlderKernel(t *testing.T) {
	dir := t.TempDir()
	agent := filepath.Join(dir, "svctrace-agent")
	if err := vm.Build(t.Context(), agent, "../../../cmd/svctrace-agent"); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "ask")
	if err := os.WriteFile(script, []byte(askAll(agent)), 0o644); err != nil {
		t.Fatal(err)
	}
	here, err := exec.Command("sh", script).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		t.Fatalf("%v: %s", err, failed.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := vm.Run(t.Context(), vm.Options{Command: []string{"sh", script}})
	if err != nil || r.Status != 0 {
		t.Fatalf("status %d, %v: %s", r.Status, err, r.Stderr)
	}
	want, got := answers(t, string(here)), answers(t, r.Stdout)
	if n := len(scenes) * len(packets) * 2; len(want) != n || len(got) != n {
		t.Fatalf("%d answers here and %d on %s, want %d", len(want), len(got), r.Kernel, n)
	}
	for q, x := range want {
		if d := cmp.Diff(string(x), string(got[q])); d != "" {
			t.Errorf("%s, packet %s, on %s:\n%s", q.scene, q.packet, r.Kernel, d)
		}
	}
}

// askAll is a script that asks everything, each answer behind a line that tells the question.
func askAll(agent string) string {
	var b strings.Builder
	b.WriteString("set -e\n")
	for name, scene := range scenes {
		b.WriteString("unshare -n sh <<'SCENE'\n" + scene)
		for _, p := range packets {
			for _, flags := range []string{"", " --no-bpf"} {
				fmt.Fprintf(&b, "echo '@%s@%s%s'\n%s packet -o json %s%s\n", name, p, flags, agent, p, flags)
			}
		}
		b.WriteString("SCENE\n")
	}
	return b.String()
}

// answers reads what askAll prints. What was read, and how much, may differ, and how often a rule was met.
func answers(t *testing.T, out string) map[asked]json.RawMessage {
	t.Helper()
	all := map[asked]json.RawMessage{}
	for _, part := range strings.Split(out, "\n@") {
		question, answer, _ := strings.Cut(strings.TrimPrefix(part, "@"), "\n")
		scene, packet, _ := strings.Cut(question, "@")
		var x trace.Trace
		if err := json.Unmarshal([]byte(answer), &x); err != nil {
			t.Fatalf("%s: %v: %s", question, err, answer)
		}
		if want := trace.HooksListed; !strings.HasSuffix(packet, "--no-bpf") && x.Reads.Hooks != want {
			t.Errorf("%s: hooks are %s, want %s", question, x.Reads.Hooks, want)
		}
		x.Reads = trace.Reads{}
		for i := range x.Hops {
			if r := x.Hops[i].Rule; r != nil {
				r.Packets, r.Bytes = nil, nil
			}
		}
		plain, err := json.MarshalIndent(x, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		all[asked{scene, packet}] = plain
	}
	return all
}
