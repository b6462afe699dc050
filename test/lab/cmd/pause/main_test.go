package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asPause makes this test binary the program.
const asPause = "PAUSE_TEST_AS_PAUSE"

func TestMain(m *testing.M) {
	if os.Getenv(asPause) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// start runs pause as the first process of a pid namespace, as in a pod.
func start(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asPause+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	// before its handler stands, the kernel drops signals to it: SigCgt has bit 14 for SIGTERM
	await(t, "pause to catch SIGTERM", func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(status), "SigCgt:")
		var caught uint64
		if _, err := fmt.Sscanf(after, "%x", &caught); err != nil {
			t.Fatal(err)
		}
		return caught&(1<<(syscall.SIGTERM-1)) != 0
	})
	return cmd
}

// await waits for something to come about.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// children are the processes that a process has to reap some day, or has to now.
func children(t *testing.T, pid int) []string {
	t.Helper()
	out, err := exec.Command("ps", "-o", "pid=,stat=,comm=", "--ppid", fmt.Sprint(pid)).Output()
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1) { // 1: there is none
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func TestOrphansAreReaped(t *testing.T) {
	pause := start(t)
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer release.Close()
	// two that wait for the pipe and lose their parent
	orphans := exec.Command("nsenter", "--target", fmt.Sprint(pause.Process.Pid), "--pid", "--", "sh", "-c", "exec >/dev/null 2>&1; cat <&3 & cat <&3 & exit 0")
	orphans.ExtraFiles = []*os.File{hold}
	if err := orphans.Run(); err != nil {
		t.Fatal(err)
	}
	hold.Close()
	await(t, "two orphans", func() bool { return strings.Count(strings.Join(children(t, pause.Process.Pid), " "), "cat") == 2 })
	if err := release.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "no child, not even a zombie", func() bool { return len(children(t, pause.Process.Pid)) == 0 })
}

func TestSignalsEndIt(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		pause := start(t)
		// the end of a child is no reason
		if err := pause.Process.Signal(syscall.SIGCHLD); err != nil {
			t.Fatal(err)
		}
		if err := pause.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := pause.Wait(); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
	}
}
