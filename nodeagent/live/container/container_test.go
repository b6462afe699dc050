//go:build linux

package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

const (
	id      = "3f1c9e4a5b6d7c8e9f0a1b2c3d4e5f60718293a4b5c6d7e8f901a2b3c4d5e6f7"
	whole   = "         0          0 4294967295\n"
	shifted = "         0     100000      65536\n"
)

// process is a directory of a made-up /proc.
type process struct {
	pid            int
	cgroup, status string
	uids           string
	start          int
}

func made(t *testing.T, all ...process) string {
	t.Helper()
	proc := t.TempDir()
	for _, p := range all {
		dir := filepath.Join(proc, fmt.Sprint(p.pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		stat := fmt.Sprintf("%d (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 %d 20 21\n", p.pid, p.start)
		for name, text := range map[string]string{"cgroup": p.cgroup, "status": p.status, "stat": stat, "uid_map": p.uids, "gid_map": p.uids} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return proc
}

func status(uid, gid, groups string) string {
	return "Name:\tx\nUid:\t9 9 9 " + uid + "\nGid:\t9 9 9 " + gid + "\nGroups:\t" + groups + " \nNSpid:\t12\t1\n"
}

func TestFirstProcessOfAContainerDecides(t *testing.T) {
	v2 := "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope\n"
	v1 := "5:net_cls:/\n4:pids:/kubepods/besteffort/podx/" + id + "\n0::/\n"
	tests := map[string]struct {
		all  []process
		want Process
	}{
		"one":             {[]process{{12, v2, status("1337", "1337", ""), whole, 5}}, Process{PID: 12, Credentials: Credentials{UID: 1337, GID: 1337, Groups: []uint32{}}}},
		"control group 1": {[]process{{12, v1, status("0", "5", "5 20"), whole, 5}}, Process{PID: 12, Credentials: Credentials{GID: 5, Groups: []uint32{5, 20}}}},
		"the oldest of several, whatever its number": {
			[]process{{12, v2, status("101", "101", ""), whole, 9}, {40, v2, status("0", "0", ""), whole, 5}, {41, v2, status("102", "0", ""), whole, 6}, {42, v2, status("101", "0", ""), whole, 6}},
			Process{PID: 40, Credentials: Credentials{Groups: []uint32{}}, Others: []uint32{101, 102}}},
		"beside others":    {[]process{{11, "0::/system.slice\n", status("7", "7", ""), whole, 1}, {12, v2, status("3", "4", ""), whole, 5}}, Process{PID: 12, Credentials: Credentials{UID: 3, GID: 4, Groups: []uint32{}}}},
		"a user namespace": {[]process{{12, v2, status("101337", "100005", "100006"), shifted, 5}}, Process{PID: 12, Credentials: Credentials{UID: 1337, GID: 5, Groups: []uint32{6}}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Find(made(t, tt.all...), "containerd://"+id)
			if d := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); err != nil || d != "" {
				t.Errorf("%v %s", err, d)
			}
		})
	}
}

func TestWhatIsNoContainerIsAnError(t *testing.T) {
	v2 := "0::/kubepods/" + id + "\n"
	for name, c := range map[string]struct {
		proc string
		id   string
		want error
	}{
		"none runs":           {made(t, process{12, "0::/\n", status("0", "0", ""), whole, 5}), id, node.ErrNotFound},
		"no ID":               {made(t), "containerd://", nil},
		"a part of a path":    {made(t, process{12, v2, status("0", "0", ""), whole, 5}), "kubepods", nil},
		"a strange user":      {made(t, process{12, v2, status("x", "0", ""), whole, 5}), id, nil},
		"no user":             {made(t, process{12, v2, "Name:\tx\n", whole, 5}), id, nil},
		"out of its mapping":  {made(t, process{12, v2, status("5", "5", ""), shifted, 5}), id, nil},
		"an unreadable map":   {made(t, process{12, v2, status("5", "5", ""), "a b c\n", 5}), id, nil},
		"an ID of many bytes": {made(t, process{12, v2, status("4294967296", "5", ""), whole, 5}), id, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Find(c.proc, c.id)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || c.want == nil && errors.Is(err, node.ErrNotFound) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// TestRealProcessIsRead reads a process of another user out of the real /proc. That it is of a container is made up: its
// control group is the one it has.
func TestRealProcessIsRead(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1337, Gid: 1338, Groups: []uint32{20}}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	dir := fmt.Sprintf("/proc/%d", cmd.Process.Pid)
	groups, err := os.ReadFile(dir + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	p, ok, err := look(dir, strings.TrimSpace(string(groups)))
	if err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil || own != "net:["+p.Network+"]" {
		t.Errorf("network namespace %s, want %s, %v", p.Network, own, err)
	}
	want := Process{PID: cmd.Process.Pid, Program: p.Program, Network: p.Network, Credentials: Credentials{UID: 1337, GID: 1338, Groups: []uint32{20}}}
	if d := cmp.Diff(want, p.Process); d != "" || p.at == 0 || !strings.Contains(p.Program, "sleep") {
		t.Errorf("started at %d, %s", p.at, d)
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add([]byte(status("1", "2", "3 4")), []byte(whole))
	f.Fuzz(func(t *testing.T, text, ids []byte) {
		if c, err := credentials(text, ids, ids); err == nil && c.Groups == nil {
			t.Error("groups that are known are nil")
		}
		_, _ = startTime(text)
	})
}
