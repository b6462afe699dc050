//go:build linux

// Package netns makes network namespaces for tests that compare walks with what real packets do in them.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

// Place is a network namespace, kept by a thread that stays in it.
type Place struct {
	name  string
	calls chan func()
	// File opens the namespace, while the test runs.
	File string
}

// New makes a namespace with a process in it, as a pod has one: that is how a walk finds it.
func New(t *testing.T, name string) *Place {
	t.Helper()
	p := NewHidden(t, name)
	var keeper *exec.Cmd
	var err error
	p.Do(func() {
		keeper = exec.Command("sleep", "120")
		err = keeper.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = keeper.Process.Kill()
		_ = keeper.Wait()
	})
	return p
}

// NewHidden makes a namespace without a process of its own: a walk ends before it, as it ends at a real network.
func NewHidden(t *testing.T, name string) *Place {
	t.Helper()
	p := &Place{name: name, calls: make(chan func())}
	var err error
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with it
		err := unix.Unshare(unix.CLONE_NEWNET)
		p.File = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		ready <- err
		for f := range p.calls {
			f()
		}
	}()
	if err = <-ready; err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
	t.Cleanup(func() { close(p.calls) })
	p.Do(func() { err = up("lo") })
	if err != nil {
		t.Fatalf("%s: setting lo up: %v", name, err)
	}
	return p
}

// Do runs f on the thread of the place.
func (p *Place) Do(f func()) {
	done := make(chan struct{})
	p.calls <- func() { defer close(done); f() }
	<-done
}

// Sh runs commands in the place.
func (p *Place) Sh(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		var out []byte
		var err error
		p.Do(func() { out, err = exec.Command("sh", "-c", c).CombinedOutput() })
		if err != nil {
			t.Fatalf("%s: %s: %v: %s", p.name, c, err, out)
		}
	}
}

// IP runs commands of the ip tool in the place, all by one process: "link set eth0 up".
func (p *Place) IP(t *testing.T, commands ...string) {
	t.Helper()
	var out []byte
	var err error
	p.Do(func() {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
		out, err = cmd.CombinedOutput()
	})
	if err != nil {
		t.Fatalf("%s: ip %s: %v: %s", p.name, strings.Join(commands, "; ip "), err, out)
	}
}

// Sysctl sets kernel parameters of the place: "net.ipv4.ip_forward=1".
func (p *Place) Sysctl(t *testing.T, settings ...string) {
	t.Helper()
	p.Do(func() {
		for _, s := range settings {
			name, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0); err != nil {
				t.Errorf("%s: %s: %v", p.name, s, err)
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

// up sets an interface up.
func up(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

// Plug makes a veth pair between two places.
func Plug(t *testing.T, a *Place, nameA string, b *Place, nameB string) {
	t.Helper()
	a.IP(t, fmt.Sprintf("link add %s type veth peer name %s netns %s", nameA, nameB, b.File), "link set "+nameA+" up")
	b.IP(t, "link set "+nameB+" up")
}

// Listen serves TCP and UDP on an address in the place until the test ends: TCP connections are closed, datagrams echoed.
func (p *Place) Listen(t *testing.T, addr string) {
	t.Helper()
	p.Do(func() {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	})
}

// Connects tries a real TCP connection from the place. It tells whether it was made, refused at once, or timed out.
func (p *Place) Connects(to string) (fate string) {
	p.Do(func() {
		c, err := net.DialTimeout("tcp", to, 700*time.Millisecond)
		var timeout net.Error
		switch {
		case err == nil:
			c.Close()
			fate = "connected"
		case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EPERM):
			fate = "refused"
		case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, unix.EHOSTUNREACH):
			fate = "silent"
		default:
			fate = err.Error()
		}
	})
	return fate
}

var walks sync.Mutex

// Walk walks a new connection from a process that has the source address on the node. home is the node's namespace.
func (p *Place) Walk(t *testing.T, s walk.Start, options ...live.Option) *trace.Trace {
	t.Helper()
	walks.Lock()
	defer walks.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var tr *trace.Trace
	var err error
	p.Do(func() {
		w := walk.Walker{Open: func(context.Context) (node.Node, func() error, error) {
			n, err := live.OpenNode(options...)
			if err != nil {
				return nil, nil, err
			}
			return n, n.Close, nil
		}}
		tr, err = w.Walk(ctx, s)
	})
	if err != nil {
		t.Fatalf("walk: %v", err)
	}
	return tr
}

func Start(from, to string) walk.Start {
	return walk.Start{
		Proto: skb.TCP, Source: netip.AddrPortFrom(netip.MustParseAddr(from), 0), Destination: netip.MustParseAddrPort(to),
		Follow: true, FromAddress: true,
	}
}

// Fate is what a client would see of a walk with one outcome.
func Fate(t *testing.T, tr *trace.Trace) string {
	t.Helper()
	if len(tr.Outcomes) != 1 {
		t.Fatalf("%d outcomes, want one: %+v", len(tr.Outcomes), tr.Outcomes)
	}
	switch o := tr.Outcomes[0]; o.Verdict {
	case trace.Delivered:
		return "connected"
	case trace.Rejected:
		return "refused"
	case trace.Local:
		return "refused" // by the stack: nobody listens
	case trace.Dropped:
		return "silent"
	default:
		return string(o.Verdict)
	}
}

// Says returns all that the hops of a trace say, for messages and for looking for a word.
func Says(tr *trace.Trace) string {
	var b strings.Builder
	for _, h := range tr.Hops {
		fmt.Fprintf(&b, "%s %s: %s (%s)\n", h.Namespace, h.Hook, h.Action, h.Says)
	}
	for _, o := range tr.Outcomes {
		fmt.Fprintf(&b, "=> %s %s\n", o.Verdict, o.Reason)
	}
	return b.String()
}
