//go:build linux

package ctnltest_test

import (
	"errors"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/ctnl"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/ctnl/ctnltest"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

func TestAnEntryIsWhatTheKernelHas(t *testing.T) {
	runtime.LockOSThread() // for good: the thread and its namespace end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	s, err := nlsock.Open(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conns, err := ctnl.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conns.Close()
	ap := netip.MustParseAddrPort
	for _, c := range []struct {
		zoned       ctnltest.Zoned
		orig, reply uint16
	}{{ctnltest.Both, 5, 5}, {ctnltest.Original, 5, 0}, {ctnltest.Reply, 0, 5}} {
		e := ctnltest.Entry{Tuple: skb.Tuple{Proto: skb.TCP, Src: ap("[fd00::1]:4001"), Dst: ap("[fd00:96::1]:80")}, Endpoint: ap("[fd00:128::1]:8080"), Zone: 5, Zoned: c.zoned}
		if err := e.Insert(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := e.Insert(t.Context(), s); !errors.Is(err, unix.EEXIST) {
			t.Errorf("a second time: %v", err)
		}
		got, _, err := conns.Lookup(t.Context(), e.Tuple, c.orig)
		if err != nil || got.Orig != e.Tuple || got.Reply.Src != e.Endpoint || got.Zone != c.orig || got.ReplyZone != c.reply {
			t.Errorf("%+v: %+v, %v", e, got, err)
		}
		if err := s.Do(t.Context(), unix.NFNL_SUBSYS_CTNETLINK<<8|2, 0, []byte{unix.AF_INET6, 0, 0, 0}, nil); err != nil { // all
			t.Fatal(err)
		}
	}
	e := ctnltest.Entry{Tuple: skb.Tuple{Proto: skb.UDP, Src: ap("10.0.0.1:4001"), Dst: ap("10.96.0.1:53")}, Endpoint: ap("10.128.0.1:53")}
	if err := e.Insert(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := e.Delete(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := e.Delete(t.Context(), s); !errors.Is(err, unix.ENOENT) {
		t.Errorf("deleted a second time: %v", err)
	}
	if _, _, err := conns.Lookup(t.Context(), e.Tuple, 0); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("what was deleted: %v", err)
	}
}
