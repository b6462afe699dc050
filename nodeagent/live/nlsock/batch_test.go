//go:build linux

package nlsock

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBatchIsDoneWholeOrNotAtAll(t *testing.T) {
	s := open(t, nil)
	tables := func() (n int) {
		if err := s.Do(t.Context(), getTab, unix.NLM_F_DUMP, body(), func(Message) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	make := Part{Type: newTab, Flags: unix.NLM_F_CREATE, Body: body(table)}
	for name, tc := range map[string]struct {
		subsystem uint16
		parts     []Part
		want      error
	}{
		"nothing":            {unix.NFNL_SUBSYS_NFTABLES, nil, nil},
		"last part fails":    {unix.NFNL_SUBSYS_NFTABLES, []Part{make, {Type: newCha, Flags: unix.NLM_F_CREATE, Body: body("absent", "", "c")}}, unix.ENOENT},
		"first part fails":   {unix.NFNL_SUBSYS_NFTABLES, []Part{{Type: newCha, Flags: unix.NLM_F_CREATE, Body: body("absent", "", "c")}, make}, unix.ENOENT},
		"refused as a whole": {200, []Part{make}, unix.EINVAL},
	} {
		if err := s.Batch(t.Context(), tc.subsystem, tc.parts); !errors.Is(err, tc.want) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if n := tables(); n != 0 {
			t.Errorf("%s: %d tables were made", name, n)
		}
	}
	if err := s.Batch(t.Context(), unix.NFNL_SUBSYS_NFTABLES, []Part{make}); err != nil || tables() != 1 {
		t.Errorf("%d tables, %v", tables(), err)
	}
}
