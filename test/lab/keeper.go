package lab

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

// File descriptors that the keeper gets from whoever starts the lab; init gets the first of them too.
const (
	eventsFD   = 3 // the lab's progress is written here
	lifelineFD = 4 // unless detached: at its end the lab ends
)

// keeperMain starts init in namespaces of its own, ends it when it is told to (SIGTERM) or when the process that
// started the lab is gone, and then removes what a lab leaves behind. It is in no namespace of the lab and in a session
// of its own, so that nothing that kills the others kills it. If it is killed nonetheless, init dies with it; the files
// and cgroups that are then left are removed by the next lab of that name, or by Down.
func keeperMain(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one argument is needed, got %d", len(args))
	}
	s := state(args[0])
	cfg, err := s.config()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the parent that Pdeathsig speaks of is this thread
	terminate := make(chan os.Signal, 2)
	signal.Notify(terminate, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)

	cmd := exec.Command(self)
	cmd.Args = []string{roleInit, string(s)}
	cmd.Env = []string{"PATH=" + systemPath, "HOME=/"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{os.NewFile(eventsFD, "events")}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start init: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := s.writeRecord(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		<-ended
		return err
	}
	if err := cmd.ExtraFiles[0].Close(); err != nil { // whoever reads events shall see their end when init ends
		return fmt.Errorf("close events: %w", err)
	}
	parentGone := make(chan struct{})
	if !cfg.Options.Detach {
		go func() {
			_, _ = io.Copy(io.Discard, os.NewFile(lifelineFD, "lifeline")) // ends when the last writer is gone
			close(parentGone)
		}()
	}
	select {
	case err := <-ended:
		fmt.Fprintln(os.Stderr, "init ended:", err)
	case <-parentGone:
		_ = cmd.Process.Kill()
		<-ended
	case <-terminate:
		_ = cmd.Process.Kill()
		<-ended
	}
	return s.remove()
}

// writeRecord writes down the lab's processes, for Open and Down.
func (s state) writeRecord(initPID int) error {
	first, err := processOf(initPID)
	if err != nil {
		return err
	}
	keeper, err := processOf(os.Getpid())
	if err != nil {
		return err
	}
	return writeJSON(s.path("lab.json"), record{Keeper: keeper, Init: first})
}
