//go:build linux

package live

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// ethtoolGTXCSUM asks whether transmit checksums are left to the device (ETHTOOL_GTXCSUM, include/uapi/linux/ethtool.h).
const ethtoolGTXCSUM = 0x16

// ChecksumOffload tells whether an interface leaves transmit checksums to a device: what ethtool -k shows as tx-checksumming.
func (n *Namespace) ChecksumOffload(_ context.Context, link string) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, &node.ReadError{What: "offloads of " + link, Err: err}
	}
	defer unix.Close(fd)
	value := [2]uint32{ethtoolGTXCSUM} // struct ethtool_value
	var request struct {               // struct ifreq with ifr_data
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	if len(link) >= unix.IFNAMSIZ {
		return false, fmt.Errorf("%q is no name of an interface", link)
	}
	copy(request.name[:], link)
	request.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	switch {
	case errors.Is(errno, unix.EOPNOTSUPP):
		return false, fmt.Errorf("offloads of %s: %w", link, node.ErrNotSupported)
	case errno != 0:
		return false, &node.ReadError{What: "offloads of " + link, Err: errno}
	}
	return value[1] != 0, nil
}
