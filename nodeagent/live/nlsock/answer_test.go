//go:build linux

package nlsock

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// answered is a socket that has been asked question 5 and answered with b.
func answered(t *testing.T, b []byte) *Socket {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[1]) })
	s := &Socket{fd: pair[0], seq: 5, buf: make([]byte, receiveBuffer), dirty: true}
	t.Cleanup(func() { s.Close() })
	if err := unix.Sendto(pair[1], b, 0, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// message is one netlink message; its size is told truly unless size is given.
func message(typ, flags uint16, seq uint32, data []byte, size ...uint32) []byte {
	size = append(size, uint32(unix.NLMSG_HDRLEN+len(data)))
	b := binary.NativeEndian.AppendUint32(nil, size[0])
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, data...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func errno(e int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(-e)) }

func TestAnswers(t *testing.T) {
	end := message(unix.NLMSG_DONE, 0, 5, errno(0))
	for name, tc := range map[string]struct {
		answer []byte
		want   string   // what is given on
		errors []string // each in the error; none means success
		is     error
	}{
		"a whole dump":              {slices.Concat(message(77, 0, 5, []byte("a")), message(77, 0, 5, []byte("bcdef")), end), "a bcdef", nil, nil},
		"another question's":        {slices.Concat(message(77, 0, 4, []byte("a")), message(unix.NLMSG_ERROR, 0, 4, errno(1)), message(77, 0, 5, []byte("b")), end), "b", nil, nil},
		"nothing, said":             {slices.Concat(message(unix.NLMSG_NOOP, 0, 5, nil), end), "", nil, nil},
		"interrupted":               {slices.Concat(message(77, unix.NLM_F_DUMP_INTR, 5, []byte("a")), end), "a", nil, ErrInterrupted},
		"interrupted at the end":    {message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, 5, errno(0)), "", nil, ErrInterrupted},
		"refused":                   {message(unix.NLMSG_ERROR, 0, 5, errno(int32(unix.EPERM))), "", nil, unix.EPERM},
		"dump that failed":          {slices.Concat(message(77, 0, 5, []byte("a")), message(unix.NLMSG_DONE, 0, 5, errno(int32(unix.ENOMEM)))), "a", nil, unix.ENOMEM},
		"overrun":                   {message(unix.NLMSG_OVERRUN, 0, 5, nil), "", []string{"overrun"}, nil},
		"shorter than its header":   {message(77, 0, 5, nil, 15), "", []string{"a netlink message of 15 bytes in 16"}, nil},
		"of no size":                {message(77, 0, 5, nil, 0), "", []string{"a netlink message of 0 bytes"}, nil},
		"longer than what came":     {message(77, 0, 5, []byte("abcd"), 24), "", []string{"a netlink message of 24 bytes in 20"}, nil},
		"longer than memory":        {message(77, 0, 5, []byte("abcd"), 1<<32-1), "", []string{"a netlink message of 4294967295 bytes"}, nil},
		"an error without a number": {message(unix.NLMSG_ERROR, 0, 5, []byte("ab")), "", []string{"a netlink error message of 18 bytes"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := answered(t, tc.answer)
			var got []string
			err := s.receive(t.Context(), dumped, func(m Message) error { got = append(got, string(m.Data)); return nil })
			if g := strings.Join(got, " "); g != tc.want {
				t.Errorf("got %q, want %q", g, tc.want)
			}
			if tc.is == nil && tc.errors == nil && err != nil || !errors.Is(err, tc.is) && tc.is != nil || tc.errors != nil && err == nil {
				t.Errorf("error %v", err)
			}
			for _, e := range tc.errors {
				if err != nil && !strings.Contains(err.Error(), e) {
					t.Errorf("error %q does not say %q", err, e)
				}
			}
			if malformed := tc.errors != nil; s.dirty != malformed {
				t.Errorf("dirty is %v: the next question would get the rest of this answer, or a socket is thrown away for nothing", s.dirty)
			}
		})
	}
}

func TestEachStopsAtGarbage(t *testing.T) {
	good := message(77, 0, 1, []byte("a"))
	n := 0
	done, err := each(slices.Concat(good, message(78, 0, 2, nil, 3)), func(seq uint32, m Message) (bool, error) {
		n++
		if seq != 1 || m.Type != 77 || string(m.Data) != "a" {
			t.Errorf("message %d, type %d, %q", seq, m.Type, m.Data)
		}
		return false, nil
	})
	if n != 1 || done || err == nil {
		t.Errorf("%d messages, done %v, error %v", n, done, err)
	}
}
