//go:build linux

package nlsock

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// send gives the kernel a message. A netlink request is answered before the call returns; all that can be waited for is
// another's change of the same state.
//
// Neither this nor receive tells Go's scheduler of the call, or asks for the sender's address: there are some hundred of them
// in a trace, of a microsecond each, and the scheduler would start further threads for the time that it takes.
func send(fd int, b []byte) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// receive fills b with one message, without waiting for it. It returns the message's length, which is more than that of b
// when the message was cut.
func receive(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
