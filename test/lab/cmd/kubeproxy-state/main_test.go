// Package main's tests have no build tag: they run the built program, which the cache has.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// answer is what the program prints of a case.
type answer struct {
	Name   string
	Synced bool
	Error  string
}

func program(t *testing.T) string {
	t.Helper()
	p, err := lab.KubeProxyState(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// inNamespace runs a script in a network namespace of its own, with the program as $STATE.
func inNamespace(t *testing.T, input, script string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--", "sh", "-ec", script)
	cmd.Env = append(os.Environ(), "STATE="+program(t))
	cmd.Stdin = strings.NewReader(input)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	return string(out) + stderr.String(), err
}

func TestEachBackendHoldsTheGeneratedServices(t *testing.T) {
	for backend, list := range map[string]string{
		"nftables": "nft list ruleset", "iptables-nft": "iptables-nft-save", "iptables-legacy": "iptables-legacy-save",
	} {
		t.Run(backend, func(t *testing.T) {
			out, err := inNamespace(t, "", "ip link set lo up; $STATE --here --backend "+backend+" --services 2 --endpoints 3; "+list)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			first, rules, _ := strings.Cut(out, "\n")
			var a answer
			if err := json.Unmarshal([]byte(first), &a); err != nil || !a.Synced || a.Error != "" {
				t.Errorf("answer %q, %v", first, err)
			}
			for _, want := range []string{"10.96.0.1", "10.96.0.2"} {
				if !strings.Contains(rules, want) {
					t.Errorf("Service %s is not in the kernel:\n%s", want, rules)
				}
			}
			if strings.Contains(rules, "10.96.0.3") {
				t.Error("there are more Services than were asked for")
			}
		})
	}
}

func TestCaseThatCannotBeAppliedIsAnsweredAndTheNextIsRead(t *testing.T) {
	const service = `{"metadata":{"name":"web","namespace":"default"},"spec":{"clusterIP":"10.96.7.7","clusterIPs":["10.96.7.7"],"ports":[{"port":80,"protocol":"TCP"}]}}`
	const node = `{"metadata":{"name":"n"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}}`
	input := `{"name":"odd","colour":"blue"}` + "\n\n" +
		`{"name":"none","backend":"ipvs","nodes":[` + node + `]}` + "\n" +
		`{"name":"good","backend":"nftables","nodes":[` + node + `],"services":[` + service + `]}` + "\n"
	out, err := inNamespace(t, input, "ip link set lo up; $STATE --here --stdin; nft list ruleset")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got []answer
	lines := bufio.NewScanner(strings.NewReader(out))
	for len(got) < 3 && lines.Scan() {
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		got = append(got, a)
	}
	if len(got) != 3 || got[0].Synced || !strings.Contains(got[0].Error, "colour") || got[1].Synced || got[1].Error == "" || !got[2].Synced || got[2].Name != "good" {
		t.Errorf("answers %+v", got)
	}
	if !strings.Contains(out, "10.96.7.7") {
		t.Errorf("the last case is not in the kernel:\n%s", out)
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	for args, says := range map[string]string{
		"":                            "one of --file, --services and --stdin is needed",
		"--services 1 --file x":       "one of --file, --services and --stdin is needed",
		"--services 1 more":           `unexpected argument "more"`,
		"--file /nonexistent":         "no such file",
		"--bogus":                     "not defined: -bogus",
		"--backend ipvs --services 1": "ipvs",
		"--family ipx --services 1":   "ipx",
	} {
		if out, err := inNamespace(t, "", "$STATE --here "+args); err == nil || !strings.Contains(out, says) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
	// Where the machine's own rules are it writes nothing: here it is process 1 itself. It is given no case: a refusal that
	// fails does no harm.
	if out, err := exec.CommandContext(t.Context(), "unshare", "--pid", "--fork", "--mount-proc", program(t), "--here").CombinedOutput(); err == nil || !strings.Contains(string(out), "namespace of process 1") {
		t.Errorf("%v: %s", err, out)
	}
}
