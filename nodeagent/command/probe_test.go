package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/probe"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// blackHole moves the test into a network namespace of its own in which connections to 10.99.0.1:80 are dropped, and
// connections to port 81 find a listener.
func blackHole(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never given back: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
	output(t, "ip", "link", "set", "lo", "up")
	output(t, "ip", "addr", "add", "10.99.0.1/32", "dev", "lo")
	output(t, "nft", "add table ip hole; add chain ip hole in { type filter hook input priority 0 ; }; add rule ip hole in tcp dport 80 counter drop")
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// agent builds the agent as it is shipped.
func agent(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "svctrace-agent")
	output(t, "go", "build", "-o", file, "github.com/kubectl-svctrace/kubectl-svctrace/cmd/svctrace-agent")
	return file
}

// within waits until the namespace has a probe's table, or has none.
func within(t *testing.T, limit time.Duration, present bool) bool {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if strings.Contains(output(t, "nft", "list", "tables"), probe.TablePrefix) == present {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func TestAProbeThatIsKilledMidwayLeavesNoRules(t *testing.T) {
	file := agent(t)
	blackHole(t)
	before := output(t, "nft", "list", "ruleset")
	for _, c := range []struct {
		signal syscall.Signal
		limit  time.Duration
	}{{syscall.SIGKILL, 5 * time.Second}, {syscall.SIGINT, 5 * time.Second}, {syscall.SIGTERM, 5 * time.Second}} {
		var errs bytes.Buffer
		cmd := exec.Command(file, "probe", "--from", "10.99.0.1", "--to", "10.99.0.1:80", "--count", "16", "--timeout", "10s")
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		if !within(t, 10*time.Second, true) {
			t.Errorf("%s: the probe made no table: %s", c.signal, errs.String())
		}
		time.Sleep(300 * time.Millisecond) // its packets are under way
		_ = cmd.Process.Signal(c.signal)
		if !within(t, c.limit, false) {
			t.Errorf("%s: a table remains: %s", c.signal, output(t, "nft", "list", "ruleset"))
		}
		select {
		case <-ended:
		case <-time.After(c.limit):
			t.Errorf("%s: the probe goes on", c.signal)
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	after := output(t, "nft", "list", "ruleset")
	if cut(before) != cut(after) {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// cut takes the counters out of a rule set.
func cut(rules string) string {
	var out []string
	for _, f := range strings.Fields(rules) {
		if strings.Trim(f, "0123456789") != "" {
			out = append(out, f)
		}
	}
	return strings.Join(out, " ")
}

func TestServeProbesOnRequest(t *testing.T) {
	blackHole(t)
	var in, out bytes.Buffer
	for i, r := range []wire.Request{
		{Probe: &wire.ProbeRequest{Protocol: "tcp", Destination: mustEnd(t, "10.99.0.1:80"), TimeoutMillis: 300}},
		{Probe: &wire.ProbeRequest{Protocol: "tcp", Destination: mustEnd(t, "10.99.0.1:81")}},
		{Probe: &wire.ProbeRequest{Protocol: "gre", Destination: mustEnd(t, "10.99.0.1:81")}},
	} {
		r.ID = i
		if err := wire.Write(&in, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := serve(t.Context(), &in, &out); err != nil {
		t.Fatal(err)
	}
	var hello wire.Hello
	if err := wire.Read(&out, &hello); err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 3 {
		var a wire.Answer
		if err := wire.Read(&out, &a); err != nil {
			t.Fatal(err)
		}
		if a.Error != nil {
			got = append(got, a.Error.Code)
			continue
		}
		x := a.Probe.Attempts[0]
		got = append(got, fmt.Sprintf("%s %d", x.Result, len(x.Drops)))
	}
	if want := "timeout 1,refused 1,bad-request"; strings.Join(got, ",") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func mustEnd(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	a, err := parseEnd(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestProbeCommand(t *testing.T) {
	blackHole(t)
	var out, errs bytes.Buffer
	run := func(args ...string) int {
		out.Reset()
		errs.Reset()
		return Run(t.Context(), append([]string{"probe"}, args...), Streams{In: os.Stdin, Out: &out, Err: &errs})
	}
	if code := run("--from", "10.99.0.1", "--to", "10.99.0.1:80", "--timeout", "300ms", "-o", "json"); code != ExitOK {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	var a wire.ProbeAnswer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	if len(a.Counters) != 1 || a.Counters[0].Packets == 0 || a.Attempts[0].Result != wire.ProbeTimeout {
		t.Errorf("%s", &out)
	}
	if code := run("--to", "10.99.0.1:80", "--timeout", "300ms"); code != ExitOK {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	for _, want := range []string{"1 real tcp connection to 10.99.0.1:80 from host", "DROPPED", "1. TIMEOUT", "nftrace    host: ip hole in #", ": drop  tcp dport 80 counter", "NETFILTER_DROP", "counters that moved:"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("without %q:\n%s", want, &out)
		}
	}
	for _, args := range [][]string{{}, {"--to", "10.99.0.1"}, {"--to", "10.99.0.1:80", "--count", "0"}, {"--to", "10.99.0.1:80", "--count", "201"}, {"--to", "10.99.0.1:80", "--proto", "icmp"},
		{"--to", "10.99.0.1:80", "--from", "198.51.100.9"}, {"--to", "10.99.0.1:80", "-o", "xml"}, {"--to", "10.99.0.1:80", "--timeout", "0"}, {"extra"}} {
		if code := run(args...); code != ExitUsage || errs.Len() == 0 {
			t.Errorf("%v: exit code %d, %s", args, code, &errs)
		}
	}
}
