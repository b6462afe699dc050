//go:build linux

package nlsock

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenerHearsItsGroup(t *testing.T) {
	open(t, nil)
	l, err := Listen(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := func() (made []string, lost bool) {
		lost, err := l.Drain(func(m Message) error {
			if m.Type == newTab {
				made = append(made, name(t, m, unix.NFTA_TABLE_NAME))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return made, lost
	}
	if made, lost := heard(); len(made) != 0 || lost {
		t.Errorf("before anything: %q, lost %v", made, lost)
	}
	fill(t, 0)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.FD()), Events: unix.POLLIN}}, 10_000); n != 1 || err != nil {
		t.Fatalf("nothing to read: %d, %v", n, err)
	}
	if made, lost := heard(); len(made) != 1 || made[0] != table || lost {
		t.Errorf("heard %q, lost %v", made, lost)
	}

	stop := errors.New("stop")
	fill(t, 1)
	if _, err := l.Drain(func(Message) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, want what the function returned", err)
	}
}

func TestListenerTellsThatItWasTooSlow(t *testing.T) {
	s := open(t, nil)
	l, err := Listen(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := unix.SetsockoptInt(l.FD(), unix.SOL_SOCKET, unix.SO_RCVBUF, 0); err != nil { // the kernel's least
		t.Fatal(err)
	}
	for i := range 100 {
		if err := s.Batch(t.Context(), unix.NFNL_SUBSYS_NFTABLES, []Part{{Type: newTab, Flags: unix.NLM_F_CREATE, Body: body(fmt.Sprint("t", i))}}); err != nil {
			t.Fatal(err)
		}
	}
	if lost, err := l.Drain(func(Message) error { return nil }); !lost || err != nil {
		t.Errorf("lost %v, %v", lost, err)
	}
	if lost, err := l.Drain(func(Message) error { return nil }); lost || err != nil {
		t.Errorf("afterwards: lost %v, %v", lost, err)
	}
}

func TestGroupThatThereIsNot(t *testing.T) {
	if l, err := Listen(unix.NETLINK_NETFILTER, 1<<20); err == nil {
		l.Close()
		t.Error("joined")
	}
}
