//go:build linux

package xtlab

import (
	"context"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
)

// AddAccount makes an nfacct object, as "nfacct add" does; quota in packets, 0 for none.
func AddAccount(t testing.TB, name string, quota uint64) {
	t.Helper()
	s, err := nlsock.Open(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	attr := func(b []byte, typ uint16, data []byte) []byte {
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
		b = append(binary.NativeEndian.AppendUint16(b, typ), data...)
		return append(b, make([]byte, (4-len(b)%4)%4)...)
	}
	body := attr([]byte{0, 0, 0, 0}, 1, append([]byte(name), 0))
	if quota > 0 {
		body = attr(body, 5, binary.BigEndian.AppendUint32(nil, 1))
		body = attr(body, 6, binary.BigEndian.AppendUint64(nil, quota))
	}
	if err := s.Do(context.Background(), unix.NFNL_SUBSYS_ACCT<<8, unix.NLM_F_CREATE, body, nil); err != nil {
		t.Fatalf("adding nfacct object %s: %v", name, err)
	}
}
