//go:build linux

package vm

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

// bootScript is the machine's first process: it makes the host's file system its own root.
//
//go:embed boot.sh
var bootScript []byte

// startScript goes on from there: it prepares that root and runs the command.
//
//go:embed start.sh
var startScript []byte

// initramfs makes the kernel's first file system: a static busybox, the modules that the scripts load, and the scripts.
func initramfs(ctx context.Context, k Kernel) ([]byte, error) {
	shell, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	modules, err := moduleFiles(ctx, k, bootModules)
	if err != nil {
		return nil, fmt.Errorf("the modules that the machine boots with: %w", err)
	}
	var a archive
	for _, d := range []string{"bin", "dev", "proc", "host", "memory", "new", "modules"} {
		a.dir(d)
	}
	a.file("bin/busybox", shell)
	for i, m := range modules {
		content, err := os.ReadFile(m)
		if err != nil {
			return nil, err
		}
		a.file(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(m)), content) // loaded in the order of names
	}
	a.file("start", startScript)
	a.file("init", bootScript)
	return a.bytes(), nil
}
