//go:build linux

package nlsock

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
)

const (
	table  = "t"
	newTab = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE
	getTab = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE
	newCha = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWCHAIN
	getCha = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN
)

// body is struct nfgenmsg of IPv4 with strings as attributes 1, 2, 3: NFTA_TABLE_NAME, or NFTA_CHAIN_TABLE and (after the
// handle) NFTA_CHAIN_NAME.
func body(attrs ...string) []byte {
	b := []byte{unix.NFPROTO_IPV4, unix.NFNETLINK_V0, 0, 0}
	for i, a := range attrs {
		if a != "" {
			b = nlattr.Append(b, uint16(i+1), nlattr.String(a))
		}
	}
	return b
}

// name finds the string attribute typ of an nfnetlink message.
func name(t *testing.T, m Message, typ uint16) string {
	t.Helper()
	var out string
	if len(m.Data) < 4 {
		t.Fatalf("message of %d bytes", len(m.Data))
	}
	if err := nlattr.Each(m.Data[4:], func(at uint16, p []byte) error {
		if at == typ {
			out = nlattr.Text(p)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// open moves the test's thread into a network namespace of its own and opens a netfilter socket there.
func open(t *testing.T, count *Counter) *Socket {
	t.Helper()
	runtime.LockOSThread() // and never unlock: the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	return another(t, count)
}

// another opens a further socket in the namespace that open made.
func another(t *testing.T, count *Counter) *Socket {
	t.Helper()
	s, err := Open(unix.NETLINK_NETFILTER, count)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fill makes a table with n chains, in one batch, and returns the chains' names.
func fill(t *testing.T, n int) []string {
	t.Helper()
	parts := []Part{{Type: newTab, Flags: unix.NLM_F_CREATE, Body: body(table)}}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%s%d", strings.Repeat("c", 60), i))
		parts = append(parts, Part{Type: newCha, Flags: unix.NLM_F_CREATE, Body: body(table, "", names[i])})
	}
	if err := another(t, nil).Batch(t.Context(), unix.NFNL_SUBSYS_NFTABLES, parts); err != nil {
		t.Fatal(err)
	}
	return names
}

// chains dumps the names of all chains; on each is called for every one.
func chains(t *testing.T, s *Socket, each func(nth int) error) ([]string, error) {
	t.Helper()
	var got []string
	err := s.Do(t.Context(), getCha, unix.NLM_F_DUMP, body(), func(m Message) error {
		if m.Type != newCha {
			return fmt.Errorf("message type %#x", m.Type)
		}
		got = append(got, name(t, m, unix.NFTA_CHAIN_NAME))
		return each(len(got))
	})
	return got, err
}

func nothing(int) error { return nil }

// many is enough chains that the kernel answers a dump of them in several messages.
const many = 1500

func TestDumpOfManyMessagesArrivesWhole(t *testing.T) {
	var count Counter
	s := open(t, &count)
	want := fill(t, many)
	got, err := chains(t, s, nothing)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d of %d chains, %v", len(got), len(want), err)
	}
	if count.Messages != many+1 || count.Bytes < many*60 { // and the end of the dump
		t.Errorf("counted %+v", count)
	}
	count.Add(7)
	if count.Messages != many+2 {
		t.Errorf("a read by other means is not counted: %+v", count)
	}
	(*Counter)(nil).Add(1)
}

func TestOneObjectAndTheKernelsRefusal(t *testing.T) {
	s := open(t, nil)
	fill(t, 1)
	for range 2 {
		err := s.Do(t.Context(), getTab, 0, body("absent"), func(Message) error { return errors.New("an answer") })
		if !errors.Is(err, unix.ENOENT) {
			t.Errorf("a table that is not there: %v", err)
		}
		var got string
		if err := s.Do(t.Context(), getTab, 0, body(table), func(m Message) error { got += name(t, m, unix.NFTA_TABLE_NAME); return nil }); err != nil || got != table {
			t.Errorf("table %q, %v", got, err)
		}
	}
}

func TestChangeDuringADumpIsNoticed(t *testing.T) {
	s := open(t, nil)
	fill(t, many)
	change := func(name string) error {
		return another(t, nil).Batch(t.Context(), unix.NFNL_SUBSYS_NFTABLES, []Part{{Type: newTab, Flags: unix.NLM_F_CREATE, Body: body(name)}})
	}
	if _, err := chains(t, s, func(nth int) error {
		if nth == 1 {
			return change("first")
		}
		return nil
	}); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("%v, want ErrInterrupted", err)
	}

	var got []string
	tries, forgotten := 0, 0
	err := Retry(t.Context(), func() { got = nil; forgotten++ }, func() error {
		tries++
		var err error
		got, err = chains(t, s, func(nth int) error {
			if nth == 1 && tries < 3 {
				return change(fmt.Sprint("try", tries))
			}
			return nil
		})
		return err
	})
	if err != nil || len(got) != many || tries != 3 || forgotten != 2 {
		t.Errorf("%d chains after %d tries, %d forgotten, %v", len(got), tries, forgotten, err)
	}
}

func TestRetryGivesUp(t *testing.T) {
	tries := 0
	read := func(err error) func() error { return func() error { tries++; return err } }
	if err := Retry(t.Context(), func() {}, read(ErrInterrupted)); !errors.Is(err, ErrInterrupted) || tries != 20 {
		t.Errorf("%v after %d tries", err, tries)
	}
	tries = 0
	if err := Retry(t.Context(), func() {}, read(unix.ENOENT)); !errors.Is(err, unix.ENOENT) || tries != 1 {
		t.Errorf("%v after %d tries", err, tries)
	}
	tries = 0
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Retry(ctx, func() {}, read(ErrInterrupted)); !errors.Is(err, context.Canceled) || tries != 1 {
		t.Errorf("%v after %d tries", err, tries)
	}
}

func TestAnswerThatWasNotReadToItsEndIsNotTheNextOnes(t *testing.T) {
	s := open(t, nil)
	want := fill(t, many)
	enough := errors.New("enough")
	if got, err := chains(t, s, func(int) error { return enough }); !errors.Is(err, enough) || len(got) != 1 {
		t.Fatalf("%d chains, %v", len(got), err)
	}
	if err := s.Batch(t.Context(), unix.NFNL_SUBSYS_NFTABLES, []Part{{Type: newTab, Body: body(table)}}); !errors.Is(err, ErrBusy) {
		t.Errorf("a batch before the rest of the answer: %v", err)
	}
	if got, err := chains(t, s, nothing); err != nil || !slices.Equal(got, want) {
		t.Errorf("then %d of %d chains, %v", len(got), len(want), err)
	}
}

func TestSocketIsBusyInItsOwnAnswer(t *testing.T) {
	s := open(t, nil)
	fill(t, 1)
	_, err := chains(t, s, func(int) error {
		if err := s.Batch(t.Context(), unix.NFNL_SUBSYS_NFTABLES, []Part{{Type: newTab, Body: body(table)}}); !errors.Is(err, ErrBusy) {
			t.Errorf("batch: %v", err)
		}
		return s.Do(t.Context(), getTab, 0, body(table), nil)
	})
	if !errors.Is(err, ErrBusy) {
		t.Errorf("request: %v", err)
	}
}

func TestObjectLargerThanTheBufferIsReadAgainWithMore(t *testing.T) {
	s := open(t, nil)
	fill(t, 1)
	s.buf = make([]byte, 32)
	if _, err := chains(t, s, nothing); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("%v, want ErrInterrupted", err)
	}
	var got []string
	if err := Retry(t.Context(), func() { got = nil }, func() (err error) { got, err = chains(t, s, nothing); return err }); err != nil || len(got) != 1 {
		t.Errorf("chains %q, %v", got, err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	s := open(t, nil) // that was asked nothing: nothing comes
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if _, err := s.recv(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting: %v", err)
	}
	if err := s.Do(ctx, getTab, unix.NLM_F_DUMP, body(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("asking: %v", err)
	}
}

func TestClosedSocketSaysSo(t *testing.T) {
	s := open(t, nil)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if err := s.Do(t.Context(), getTab, unix.NLM_F_DUMP, body(), nil); !errors.Is(err, unix.EBADF) {
		t.Errorf("%v, want EBADF", err)
	}
	if _, err := Open(1<<10, nil); err == nil {
		t.Error("a netlink family that there is not was opened")
	}
}

func TestGetIsOneMessageOrTheKernelsRefusal(t *testing.T) {
	var count Counter
	s := open(t, &count)
	fill(t, 1)
	for range 2 {
		if err := s.Get(t.Context(), getTab, body("absent"), nil); !errors.Is(err, unix.ENOENT) {
			t.Errorf("a table that is not there: %v", err)
		}
		var got string
		if err := s.Get(t.Context(), getTab, body(table), func(m Message) error { got += name(t, m, unix.NFTA_TABLE_NAME); return nil }); err != nil || got != table {
			t.Errorf("table %q, %v", got, err)
		}
		if s.dirty {
			t.Error("more is expected behind the answer")
		}
	}
	if count.Messages != 4 {
		t.Errorf("%d messages", count.Messages)
	}
	refused := errors.New("refused")
	if err := s.Get(t.Context(), getTab, body(table), func(Message) error { return refused }); !errors.Is(err, refused) || s.dirty {
		t.Errorf("an answer that was not wanted: %v, more behind it: %v", err, s.dirty)
	}
}
