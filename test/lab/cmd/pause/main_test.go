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
	// It heeds signals from when it reaps on: a child that ended before is reaped with the next one.
	await(t, "pause to reap a child", func() bool {
		release := orphan(t, cmd.Process.Pid)
		await(t, "the orphan", func() bool { return strings.Contains(children(t, cmd.Process.Pid), "cat") })
		release.Close()
		for range 20 {
			if children(t, cmd.Process.Pid) == "" {
				return true
			}
			time.Sleep(5 * time.Millisecond)
		}
		return false
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
func children(t *testing.T, pid int) string {
	t.Helper()
	out, err := exec.Command("ps", "-o", "pid=,stat=,comm=", "--ppid", fmt.Sprint(pid)).Output()
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1) { // 1: there is none
		t.Fatal(err)
	}
	return string(out)
}

// orphan starts a process in the pid namespace of pause, whose parent ends at once. It lives until the file is closed.
func orphan(t *testing.T, pause int) *os.File {
	t.Helper()
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { release.Close() })
	parent := exec.Command("nsenter", "--target", fmt.Sprint(pause), "--pid", "--", "sh", "-c", "exec >/dev/null 2>&1; cat <&3 & exit 0")
	parent.ExtraFiles = []*os.File{hold}
	if err := parent.Run(); err != nil {
		t.Fatal(err)
	}
	hold.Close()
	return release
}

func TestOrphansThatEndTogetherAreAllReaped(t *testing.T) {
	pause := start(t)
	var releases []*os.File
	for range 5 {
		releases = append(releases, orphan(t, pause.Process.Pid))
	}
	await(t, "all orphans", func() bool { return strings.Count(children(t, pause.Process.Pid), "cat") == len(releases) })
	for _, r := range releases {
		r.Close()
	}
	await(t, "no child, not even a zombie", func() bool { return children(t, pause.Process.Pid) == "" })
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
