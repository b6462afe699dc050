//go:build linux

package oracle

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// thread is an operating system thread in a network namespace of its own. Everything done by do happens in that
// namespace; sockets opened there stay in it.
type thread struct {
	work chan func()
	done chan struct{}
	id   int
}

// newThread starts a thread in a new, empty network namespace.
func newThread() (*thread, error) {
	t := &thread{work: make(chan func()), done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(t.done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			started <- fmt.Errorf("making a network namespace: %w", err)
			return
		}
		t.id = unix.Gettid()
		started <- nil
		for f := range t.work {
			f()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return t, nil
}

// do runs f in the namespace and waits for it.
func (t *thread) do(f func() error) error {
	result := make(chan error)
	t.work <- func() { result <- f() }
	return <-result
}

// close ends the thread.
func (t *thread) close() {
	close(t.work)
	<-t.done
}
