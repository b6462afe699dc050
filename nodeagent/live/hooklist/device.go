//go:build linux

package hooklist

import (
	"encoding/binary"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// The kernel's table of a namespace's devices by their index (NETDEV_HASHENTRIES in include/linux/netdevice.h), and a bound
// on the devices in one of its lists: some hundred thousand in all.
const (
	deviceLists = 256
	maxInList   = 4096
)

// Device lists the functions at the ingress hook of a device, or at its egress hook.
func (r *Reader) Device(index int, egress bool) ([]node.HookFunction, error) {
	l := r.memory.Layout
	at, hook := l.DeviceIngress, uint32(node.DeviceIngress)
	if egress {
		at, hook = l.DeviceEgress, node.DeviceEgress
	}
	if egress && at == bpf.Absent && l.DeviceIngress != bpf.Absent {
		return nil, nil // a kernel without CONFIG_NETFILTER_EGRESS
	}
	if at == bpf.Absent || l.NetDevices == bpf.Absent || l.DeviceNext == bpf.Absent || l.DeviceIndex == bpf.Absent {
		return nil, fmt.Errorf("the hooks of devices: %w", node.ErrNotSupported)
	}
	device, err := r.device(index)
	if err != nil {
		return nil, err
	}
	return r.at(device+uint64(at), place{family: node.NFTNetdev, hook: hook})
}

// device finds a struct net_device by its index.
func (r *Reader) device(index int) (uint64, error) {
	l := r.memory.Layout
	lists, err := r.memory.Pointer(r.net + uint64(l.NetDevices))
	if err != nil {
		return 0, err
	}
	next := lists + 8*uint64(index%deviceLists)
	for range maxInList {
		// A list head is a pointer, and a node begins with one.
		if next, err = r.memory.Pointer(next); err != nil {
			return 0, err
		}
		if next == 0 {
			break
		}
		device := next - uint64(l.DeviceNext)
		var is [4]byte
		if err := r.memory.Bytes(device+uint64(l.DeviceIndex), is[:]); err != nil {
			return 0, err
		}
		if int(binary.NativeEndian.Uint32(is[:])) == index {
			return device, nil
		}
	}
	return 0, fmt.Errorf("%w: no device has the index %d", ErrOdd, index)
}
