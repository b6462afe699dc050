//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// metaPackage is the Debian package that depends on the current kernel.
const metaPackage = "linux-image-amd64"

// kernelTime is how long getting a kernel may take: 70 MB over the network.
const kernelTime = 10 * time.Minute

// Kernel is an unpacked kernel of Debian's.
type Kernel struct {
	// Release is what uname -r says in it.
	Release string
	// Image is the file that is booted; Root is the directory with its lib/modules, where depmod has been run.
	Image, Root string
}

// GetKernel returns the kernel that apt would install. It is downloaded and unpacked when it is not in the cache.
func GetKernel(ctx context.Context) (Kernel, error) {
	if runtime.GOARCH != "amd64" {
		return Kernel{}, fmt.Errorf("the virtual machine is of amd64: it cannot run the programs of %s", runtime.GOARCH)
	}
	ctx, cancel := context.WithTimeout(ctx, kernelTime)
	defer cancel()
	p, err := currentKernel(ctx)
	if err != nil { // apt has no lists yet
		if _, err := output(ctx, "", "apt-get", "update", "-q"); err != nil {
			return Kernel{}, err
		}
		if p, err = currentKernel(ctx); err != nil {
			return Kernel{}, err
		}
	}
	k, err := cached(ctx, p)
	if err == nil || ctx.Err() != nil {
		return k, err
	}
	// The lists may be older than the mirror, which has another version by now.
	if _, e := output(ctx, "", "apt-get", "update", "-q"); e != nil {
		return Kernel{}, errors.Join(err, e)
	}
	if p, err = currentKernel(ctx); err != nil {
		return Kernel{}, err
	}
	return cached(ctx, p)
}

// debianPackage is a package in one version.
type debianPackage struct{ name, version string }

var dependsOnKernel = regexp.MustCompile(`(?m)^Depends:.*\b(linux-image-[0-9][^ ,]*) \(= ([^)]+)\)`)

// currentKernel asks apt which kernel it would install.
func currentKernel(ctx context.Context) (debianPackage, error) {
	out, err := output(ctx, "", "apt-cache", "show", "--no-all-versions", metaPackage)
	if err != nil {
		return debianPackage{}, err
	}
	m := dependsOnKernel.FindStringSubmatch(out)
	if m == nil {
		return debianPackage{}, fmt.Errorf("apt-cache does not tell which kernel %s depends on", metaPackage)
	}
	return debianPackage{m[1], m[2]}, nil
}

// unpack downloads a kernel into a directory and keeps of it what a virtual machine has use for.
func unpack(ctx context.Context, p debianPackage, dir string) error {
	if _, err := output(ctx, dir, "apt-get", "download", "-q", p.name+"="+p.version); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("downloading %s left %d packages: %v", p.name, len(debs), err)
	}
	if _, err := output(ctx, dir, "dpkg", "-x", debs[0], dir); err != nil {
		return err
	}
	if err := errors.Join(os.Remove(debs[0]), os.RemoveAll(filepath.Join(dir, "usr"))); err != nil {
		return err
	}
	release := strings.TrimPrefix(p.name, "linux-image-")
	if err := trim(filepath.Join(dir, "lib", "modules", release, "kernel")); err != nil {
		return err
	}
	_, err = output(ctx, dir, depmod, "-b", dir, release)
	return err
}

// trim removes drivers of hardware that a virtual machine has not: three quarters of all modules.
func trim(modules string) error {
	drivers := filepath.Join(modules, "drivers")
	all, err := os.ReadDir(drivers)
	if err != nil {
		return err
	}
	gone := []string{filepath.Join(modules, "sound"), filepath.Join(drivers, "net", "ethernet"), filepath.Join(drivers, "net", "wireless")}
	for _, d := range all {
		if d.Name() != "net" && d.Name() != "virtio" {
			gone = append(gone, filepath.Join(drivers, d.Name()))
		}
	}
	var errs []error
	for _, d := range gone {
		errs = append(errs, os.RemoveAll(d))
	}
	return errors.Join(errs...)
}
