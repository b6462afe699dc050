//go:build linux

package kmem

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
)

// Namespace returns the address of the struct net of the calling thread's network namespace.
func (r *Reader) Namespace() (uint64, error) {
	task, err := r.Task()
	if err != nil {
		return 0, err
	}
	proxy, err := r.Pointer(task + uint64(r.Layout.TaskNSProxy))
	if err != nil {
		return 0, err
	}
	net, err := r.Pointer(proxy + uint64(r.Layout.NSProxyNet))
	if err != nil {
		return 0, err
	}
	var inode [4]byte
	if err := r.Bytes(net+uint64(r.Layout.NetInode), inode[:]); err != nil {
		return 0, err
	}
	info, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return 0, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Ino != uint64(binary.NativeEndian.Uint32(inode[:])) {
		return 0, errors.New("another network namespace than the thread's")
	}
	return net, nil
}
