package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// children starts the processes of a process 1 and reaps them, and with them whatever orphan a pid namespace hands to
// its process 1. All children must be started through it: it takes every exit status there is.
type children struct {
	mu      sync.Mutex
	running map[int]*child
}

// child is a process that was started. Once it has ended, done is closed and status is valid.
type child struct {
	pid    int
	done   chan struct{}
	status syscall.WaitStatus
}

// newChildren starts reaping, for the rest of the process's life.
func newChildren() *children {
	c := &children{running: map[int]*child{}}
	exits := make(chan os.Signal, 1)
	signal.Notify(exits, syscall.SIGCHLD)
	go func() {
		for range exits {
			c.reap()
		}
	}()
	return c
}

func (c *children) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if ch := c.running[pid]; ch != nil {
			ch.status = status
			delete(c.running, pid)
			close(ch.done)
		}
	}
}

// start runs cmd in the named network namespace, or in the caller's if netns is empty. The command's output must go to
// files: nothing waits for a pipe.
func (c *children) start(cmd *exec.Cmd, netns string) (*child, error) {
	c.mu.Lock() // the reaper must not see the process end before it is known
	defer c.mu.Unlock()
	start := cmd.Start
	if netns != "" {
		start = func() error { return inNamespace(namedNamespace(netns), cmd.Start) }
	}
	if err := start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Args[0], err)
	}
	ch := &child{pid: cmd.Process.Pid, done: make(chan struct{})}
	c.running[ch.pid] = ch
	return ch, nil
}

// run starts cmd and waits for it to succeed, at most for limit.
func (c *children) run(cmd *exec.Cmd, limit time.Duration) error {
	ch, err := c.start(cmd, "")
	if err != nil {
		return err
	}
	if !ch.wait(limit) {
		ch.kill(syscall.SIGKILL)
		return fmt.Errorf("%s took longer than %v", cmd.Args[0], limit)
	}
	if ch.status.ExitStatus() != 0 {
		return fmt.Errorf("%s: %s", cmd.Args[0], describe(ch.status))
	}
	return nil
}

// wait waits for the child's end, at most for limit, and says whether it came.
func (ch *child) wait(limit time.Duration) bool {
	select {
	case <-ch.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// ended says whether the child has ended by now.
func (ch *child) ended() bool {
	select {
	case <-ch.done:
		return true
	default:
		return false
	}
}

func (ch *child) kill(s syscall.Signal) {
	if !ch.ended() {
		_ = syscall.Kill(ch.pid, s) // it may end at this moment; wait tells
	}
}

func describe(s syscall.WaitStatus) string {
	if s.Signaled() {
		return "killed by " + s.Signal().String()
	}
	return fmt.Sprintf("exit status %d", s.ExitStatus())
}
