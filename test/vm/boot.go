//go:build linux

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// boot runs a machine until it ends by itself, or kills it when the context does, and returns what it wrote to its console.
func boot(ctx context.Context, k Kernel, job string, memory int) (console string, err error) {
	if memory == 0 {
		memory = defaultMemory
	}
	var out, messages bytes.Buffer
	cmd := exec.CommandContext(ctx, qemu,
		"-accel", "tcg", "-cpu", "max", "-m", strconv.Itoa(memory), "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", k.Image, "-initrd", filepath.Join(job, "initramfs"), "-append", "console=ttyS0 quiet panic=-1",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap", "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
		"-fsdev", "local,id=job,path="+strings.ReplaceAll(job, ",", ",,")+",security_model=none", "-device", "virtio-9p-pci,fsdev=job,mount_tag=job")
	cmd.Stdout, cmd.Stderr = &out, &messages
	// The machine ends with the process that wants it, however that ends. The kernel watches the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		err = &MissingError{Packages: []string{"qemu-system-x86"}}
	case err != nil:
		err = fmt.Errorf("%s: %w: %s", qemu, err, strings.TrimSpace(messages.String()))
	}
	return out.String(), err
}
