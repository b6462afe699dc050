//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// measure runs a program with its output in a file. It prints the nanoseconds from start to end, those of processor time,
// and the most memory that was resident, in bytes.
func measure(args []string) error {
	if len(args) < 2 {
		return errors.New("measure needs a file and a program")
	}
	out, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer out.Close()
	path, err := exec.LookPath(args[1])
	if err != nil {
		return err
	}
	// An interrupt reaches the program as well, which ends with it.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	start := time.Now()
	p, err := os.StartProcess(path, args[1:], &os.ProcAttr{Files: []*os.File{nil, out, os.Stderr}, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		return err
	}
	state, err := p.Wait()
	wall := time.Since(start)
	if err != nil {
		return err
	}
	if !state.Success() {
		return fmt.Errorf("%s: %s", path, state)
	}
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("the system tells no usage")
	}
	fmt.Println(wall.Nanoseconds(), (state.UserTime() + state.SystemTime()).Nanoseconds(), usage.Maxrss<<10)
	return nil
}
