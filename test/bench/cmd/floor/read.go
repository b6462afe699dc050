//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket options and structures of include/uapi/linux/netfilter_ipv4/ip_tables.h.
const (
	getInfo, getEntries = 64, 65
	infoSize, headSize  = 84, 40
	infoSizeAt          = 80 // ipt_getinfo.size
	headSizeAt          = 32 // ipt_get_entries.size
)

// readTable reads a legacy IPv4 table by IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES.
func readTable(table string) error {
	size, err := tableSize(table)
	if err != nil {
		return err
	}
	entries := make([]byte, headSize+int(size))
	copy(entries, table)
	binary.NativeEndian.PutUint32(entries[headSizeAt:], uint32(size))
	return getsockopt(getEntries, entries)
}

// tableSize returns the size of a table's entries in bytes.
func tableSize(table string) (int64, error) {
	info := make([]byte, infoSize)
	copy(info, table)
	err := getsockopt(getInfo, info)
	return int64(binary.NativeEndian.Uint32(info[infoSizeAt:])), err
}

func getsockopt(name int, b []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_IP, uintptr(name),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// readChains reads by netlink: for each family, table and chain its rules; for a family behind them all its chains.
func readChains(args []string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for len(args) > 0 {
		family, err := strconv.ParseUint(args[0], 10, 8)
		if err != nil {
			return err
		}
		if len(args) < 3 {
			if err := dump(fd, unix.NFT_MSG_GETCHAIN, byte(family), nil, buf); err != nil {
				return fmt.Errorf("all chains: %w", err)
			}
			args = args[1:]
			continue
		}
		attrs := nameAttr(nil, unix.NFTA_RULE_TABLE, args[1])
		attrs = nameAttr(attrs, unix.NFTA_RULE_CHAIN, args[2])
		if err := dump(fd, unix.NFT_MSG_GETRULE, byte(family), attrs, buf); err != nil {
			return fmt.Errorf("chain %s of table %s: %w", args[2], args[1], err)
		}
		args = args[3:]
	}
	return nil
}

func nameAttr(b []byte, typ uint16, name string) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(name)+1))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(append(b, name...), 0)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// dump sends one request and receives its whole answer.
func dump(fd int, msg uint16, family byte, attrs, buf []byte) error {
	req := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+4+len(attrs)))
	req = binary.NativeEndian.AppendUint16(req, unix.NFNL_SUBSYS_NFTABLES<<8|msg)
	req = binary.NativeEndian.AppendUint16(req, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req = append(req, 1, 0, 0, 0, 0, 0, 0, 0, family, 0, 0, 0)
	req = append(req, attrs...)
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				return os.NewSyscallError("netlink", unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:]))))
			}
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return errors.New("a malformed netlink message")
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}
