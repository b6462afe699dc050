//go:build linux

package probe

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// bindAs opens a socket as the user and group that the request names: rules that ask for a sender's user see the ones for
// access to files of the thread that opened the socket (xt_owner, nft_meta). Where the agent may not become that user the
// connection is opened as its own, and a note says so.
func (s *session) bindAs(source netip.Addr) (*attempt, error) {
	back, err := s.become()
	if err != nil {
		s.note("%v", err)
	}
	a, err := bind(s.proto, source)
	back()
	return a, err
}

// become makes the calling thread, which is locked to its goroutine, that user and group until back is called.
func (s *session) become() (back func(), err error) {
	uid, gid := -1, -1
	back = func() {
		if uid >= 0 {
			_ = setFS(unix.SYS_SETFSUID, uid)
		}
		if gid >= 0 {
			_ = setFS(unix.SYS_SETFSGID, gid)
		}
	}
	// The group first: another user may not be allowed to change it.
	if g := s.group; g != nil {
		gid = setFS(unix.SYS_SETFSGID, int(*g))
		if got := setFS(unix.SYS_SETFSGID, -1); got != int(*g) {
			return back, fmt.Errorf("the connections are opened by group %d and not by the client's group %d: that needs CAP_SETGID", got, *g)
		}
	}
	if u := s.user; u != nil {
		uid = setFS(unix.SYS_SETFSUID, int(*u))
		if got := setFS(unix.SYS_SETFSUID, -1); got != int(*u) {
			return back, fmt.Errorf("the connections are opened by user %d and not by the client's user %d: that needs CAP_SETUID", got, *u)
		}
	}
	return back, nil
}

// setFS sets the thread's user or group for access to files, and returns the one before. It has no other answer: one looks
// whether it worked by setting an impossible one, which changes nothing (setfsuid(2)).
func setFS(call uintptr, id int) int {
	was, _, _ := unix.RawSyscall(call, uintptr(id), 0, 0)
	return int(int32(was))
}
