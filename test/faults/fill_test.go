package faults

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// fillVariable makes the test binary fill the connection tracking of the namespace it runs in, and nothing else.
const fillVariable = "SVCTRACE_FILL"

func TestMain(m *testing.M) {
	if v := os.Getenv(fillVariable); v != "" {
		count, err := strconv.Atoi(v)
		if err == nil {
			err = fill(count)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// copySelf puts the test binary where the nodes see it.
func copySelf(dir string) (string, error) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "faults.test")
	return to, os.WriteFile(to, self, 0o755)
}

// Attributes of include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	ctNew                            = 1 << 8 // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
	ctOrig, ctReply                  = 1, 2
	ctStatus, ctTimeout              = 3, 7
	ctIP, ctProto                    = 1, 2
	ctV4Src, ctV4Dst                 = 1, 2
	ctProtoNum, ctSrcPort, ctDstPort = 1, 2, 3
	// seen, assured and confirmed: an entry that has to make room for none.
	ctSettled = 1<<1 | 1<<2 | 1<<3
)

// fill makes so many settled UDP entries, which stay for ten minutes.
func fill(count int) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	var batch []byte
	for i := range count {
		batch = append(batch, entry(i)...)
		if len(batch) > 16<<10 || i == count-1 {
			if err := unix.Sendto(fd, batch, 0, to); err != nil {
				return fmt.Errorf("entry %d: %w", i, err)
			}
			batch = batch[:0]
		}
	}
	return nil
}

// entry is the message that makes entry i: a port of 198.18.0.0/15, the network for benchmarks, asks another.
func entry(i int) []byte {
	a, b := [4]byte{198, 18, byte(i >> 24), byte(i >> 16)}, [4]byte{198, 19, 0, 1}
	port := uint16(i)
	body := append([]byte{unix.AF_INET, 0, 0, 0},
		concat(nested(ctOrig, tuple(a, b, port, 53)), nested(ctReply, tuple(b, a, 53, port)), attr(ctStatus, be32(ctSettled)), attr(ctTimeout, be32(600)))...)
	head := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	head = binary.NativeEndian.AppendUint16(head, ctNew)
	head = binary.NativeEndian.AppendUint16(head, unix.NLM_F_REQUEST|unix.NLM_F_CREATE)
	head = append(head, make([]byte, 8)...) // sequence number and port ID
	return append(head, body...)
}

func tuple(src, dst [4]byte, sport, dport uint16) []byte {
	return concat(
		nested(ctIP, concat(attr(ctV4Src, src[:]), attr(ctV4Dst, dst[:]))),
		nested(ctProto, concat(attr(ctProtoNum, []byte{unix.IPPROTO_UDP}), attr(ctSrcPort, binary.BigEndian.AppendUint16(nil, sport)), attr(ctDstPort, binary.BigEndian.AppendUint16(nil, dport)))),
	)
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func attr(kind uint16, value []byte) []byte {
	out := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	out = append(binary.NativeEndian.AppendUint16(out, kind), value...)
	return append(out, make([]byte, -len(out)&3)...)
}

func nested(kind uint16, value []byte) []byte { return attr(kind|unix.NLA_F_NESTED, value) }

func concat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
