//go:build linux

package command

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// packet runs the command in the calling thread's namespace.
func packet(t *testing.T, args ...string) *trace.Trace {
	t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"packet", "--from", "127.0.0.1", "--to", "127.0.0.1:80", "-o", "json"}, args...)
	if code := Run(context.Background(), args, Streams{Out: &out, Err: &errs}); code != ExitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	tr := &trace.Trace{}
	if err := json.Unmarshal(out.Bytes(), tr); err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestABPFProgramAtAHookIsNotKnown(t *testing.T) {
	runtime.LockOSThread() // for good: the thread and its namespace end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if tr := packet(t); len(tr.Outcomes) != 1 || tr.Outcomes[0].Verdict == trace.Undetermined || tr.Reads.Hooks != trace.HooksListed {
		t.Fatalf("without a program: %+v, %+v", tr.Outcomes, tr.Reads)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Netfilter, AttachType: ebpf.AttachNetfilter, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	l, err := link.AttachNetfilter(link.NetfilterOptions{Program: p, ProtocolFamily: link.NetfilterProtoIPv4, Hook: link.NetfilterInetLocalIn, Priority: 11})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tr := packet(t)
	named := 0
	for _, o := range tr.Outcomes {
		if o.Verdict == trace.Undetermined && len(o.Unknown) == 1 && strings.Contains(o.Unknown[0].What, "netfilter BPF program of priority 11") {
			named++
		}
	}
	if len(tr.Outcomes) != 2 || named != 2 {
		t.Errorf("with a program: %+v", tr.Outcomes)
	}
	if tr := packet(t, "--no-bpf"); tr.Reads.Hooks != trace.HooksDerived {
		t.Errorf("without BPF the hooks are %q", tr.Reads.Hooks)
	}
}
