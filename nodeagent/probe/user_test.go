//go:build linux

package probe

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

func TestConnectionsAreOpenedAsTheClientsUser(t *testing.T) {
	l := newLab(t)
	l.inPod(1, func() {
		l.nft(`table ip own {
	chain output {
		type filter hook output priority 0
		meta skuid 1337 meta skgid 1338 reject with icmp type admin-prohibited
	}
}`)
	})
	l.serve(2, 8080)
	user, group, other := uint32(1337), uint32(1338), uint32(5)
	for name, tt := range map[string]struct {
		user, group *uint32
		want        wire.ProbeResult
	}{
		"the agent's own": {nil, nil, wire.ProbeConnected},
		"that user":       {&user, &group, wire.ProbeUnreachable},
		"another group":   {&user, &other, wire.ProbeConnected},
		"another user":    {&other, &group, wire.ProbeConnected},
	} {
		a := l.probe(wire.ProbeRequest{Protocol: "tcp", Source: l.client(), Destination: l.to(l.addr(2, 10) + ":8080"), User: tt.user, Group: tt.group, TimeoutMillis: 500})
		if got := a.Attempts[0].Result; got != tt.want || len(a.Notes) != 0 {
			t.Errorf("%s: %s (%s), want %s; notes %q", name, got, a.Attempts[0].Errno, tt.want, a.Notes)
		}
	}
	if uid, gid := setFS(unix.SYS_SETFSUID, -1), setFS(unix.SYS_SETFSGID, -1); uid != 0 || gid != 0 {
		t.Errorf("the thread is left as %d, %d", uid, gid)
	}
}

// TestUserThatCannotBecomeIsANote lets the thread lose the right to change its user.
func TestUserThatCannotBecomeIsANote(t *testing.T) {
	done := make(chan struct{})
	go func() { // the thread ends with the goroutine
		defer close(done)
		runtime.LockOSThread()
		if err := dropCapabilities(unix.CAP_SETUID, unix.CAP_SETGID); err != nil {
			t.Error(err)
			return
		}
		user, group := uint32(1337), uint32(0)
		s := &session{target: target{user: &user, group: &group}}
		back, err := s.become()
		back()
		if err == nil || setFS(unix.SYS_SETFSUID, -1) != 0 {
			t.Errorf("%v, as %d", err, setFS(unix.SYS_SETFSUID, -1))
		}
		s.group = &user
		if back, err = s.become(); err == nil {
			t.Error("another group is no note")
		}
		back()
	}()
	<-done
}

// dropCapabilities takes capabilities from the thread.
func dropCapabilities(drop ...int) error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	for _, c := range drop {
		data[c/32].Effective &^= 1 << (c % 32)
	}
	return unix.Capset(&head, &data[0])
}
