//go:build linux

package vm

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// bootModules are what the machine needs to see its host's file system.
var bootModules = []string{"virtio_pci", "9pnet_virtio", "9p", "overlay"}

// moduleFiles returns the files of modules and of all that they depend on (modules.dep), in the order in which they are to
// be loaded. What is built into the kernel needs none.
func moduleFiles(ctx context.Context, k Kernel, names []string) ([]string, error) {
	var files []string
	for _, name := range names {
		out, err := output(ctx, "", modprobe, "-d", k.Root, "-S", k.Release, "--show-depends", name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			switch {
			case len(f) == 2 && f[0] == "builtin":
			case len(f) >= 2 && f[0] == "insmod":
				if !slices.Contains(files, f[1]) {
					files = append(files, f[1])
				}
			default:
				return nil, fmt.Errorf("modprobe says of %s: %q", name, line)
			}
		}
	}
	return files, nil
}
