//go:build linux

package namespaces

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/cgroup"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/netns"
)

// What programs of control groups do to a socket is unknown, and said so: here they refuse.
func TestProgramsOfControlGroups(t *testing.T) {
	group := cgroup.Own(t)
	n := netns.New(t, "node")
	n.Listen(t, "127.0.0.1:80")
	for name, c := range map[string]struct {
		typ  ebpf.ProgramType
		at   ebpf.AttachType
		real string
	}{
		"connect4": {ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, "refused"},
		"egress":   {ebpf.CGroupSKB, ebpf.AttachCGroupInetEgress, "silent"},
		"ingress":  {ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress, "silent"},
		"connect6": {ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Connect, "connected"}, // not met
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "refuse_all", Type: c.typ, AttachType: c.at, License: "Apache-2.0",
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			l, err := link.AttachCgroup(link.CgroupOptions{Path: group, Attach: c.at, Program: p})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			s := netns.Start("127.0.0.1", "127.0.0.1:80")
			s.FromAddress = false
			tr := n.Walk(t, s)
			if real := n.Connects("127.0.0.1:80"); real != c.real {
				t.Errorf("the real connection: %s, want %s", real, c.real)
			}
			if c.real == "connected" {
				if got := netns.Fate(t, tr); got != c.real {
					t.Errorf("the walk says %s:\n%s", got, netns.Says(tr))
				}
				return
			}
			for _, o := range tr.Outcomes {
				if o.Verdict != trace.Undetermined || len(o.Unknown) != 1 || !strings.Contains(o.Unknown[0].What, "refuse_all") {
					t.Errorf("%+v", o)
				}
			}
		})
	}
}
