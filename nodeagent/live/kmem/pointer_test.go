//go:build linux

package kmem

import "unsafe"

// uintptrOf is a C string for a system call.
func uintptrOf(s string) uintptr {
	b := append([]byte(s), 0)
	return uintptr(unsafe.Pointer(&b[0]))
}
