//go:build linux

package vm

import (
	"bytes"
	"fmt"
)

// archive is a cpio archive of the kind that the kernel unpacks as its first file system
// (Documentation/driver-api/early-userspace/buffer-format.rst, "newc").
type archive struct {
	buf   bytes.Buffer
	inode int
}

// Modes of files in an archive.
const (
	directory  = 0o040755
	executable = 0o100755
)

// dir adds a directory. Those above it are to be added before.
func (a *archive) dir(name string) { a.entry(name, directory, nil) }

// file adds a file that may be executed.
func (a *archive) file(name string, content []byte) { a.entry(name, executable, content) }

func (a *archive) entry(name string, mode int, content []byte) {
	a.inode++
	links := 1
	if mode == directory {
		links = 2
	}
	fmt.Fprintf(&a.buf, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.buf.WriteString(name)
	a.buf.WriteByte(0)
	a.pad()
	a.buf.Write(content)
	a.pad()
}

// pad fills up to a multiple of four bytes, where the next part begins.
func (a *archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

// bytes ends the archive and returns it.
func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.buf.Bytes()
}
