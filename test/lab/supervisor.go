package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Component is one long-running program of a lab.
type Component string

// The components of a node and of the control plane.
const (
	Containerd        Component = "containerd"
	Kubelet           Component = "kubelet"
	KubeProxy         Component = "kube-proxy"
	Etcd              Component = "etcd"
	APIServer         Component = "kube-apiserver"
	ControllerManager Component = "kube-controller-manager"
	Scheduler         Component = "kube-scheduler"
)

// stopGrace is how long a component may take to end on SIGTERM.
const stopGrace = 5 * time.Second

// supervisor runs components as children of a process 1. It starts none again by itself: a lab does what it is told.
type supervisor struct {
	children *children
	netns    string // the network namespace to run in, empty for the own
	logs     string // the directory for logs

	mu         sync.Mutex
	commands   map[Component][]string
	components map[Component]*child
}

func newSupervisor(c *children, netns, logs string, commands map[Component][]string) *supervisor {
	return &supervisor{children: c, netns: netns, logs: logs, commands: commands, components: map[Component]*child{}}
}

// start starts a component; one that runs already is left alone.
func (s *supervisor) start(name Component) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	argv, known := s.commands[name]
	if !known {
		return fmt.Errorf("no component %q here", name)
	}
	if old := s.components[name]; old != nil && !old.ended() {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(s.logs, string(name)+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + systemPath, "HOME=/"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	ch, err := s.children.start(cmd, s.netns)
	if err != nil {
		return err
	}
	s.components[name] = ch
	return nil
}

// stop ends a component, gently at first; one that does not run is left alone.
func (s *supervisor) stop(name Component) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.commands[name]; !known {
		return fmt.Errorf("no component %q here", name)
	}
	ch := s.components[name]
	if ch == nil {
		return nil
	}
	ch.kill(syscall.SIGTERM)
	if ch.wait(stopGrace) {
		return nil
	}
	ch.kill(syscall.SIGKILL)
	if !ch.wait(stopGrace) {
		return fmt.Errorf("%s does not end", name)
	}
	return nil
}

// running are the components that run; ended are those that were started and have ended by themselves or were stopped.
func (s *supervisor) states() (running []Component, ended map[Component]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended = map[Component]string{}
	for name, ch := range s.components {
		if ch.ended() {
			ended[name] = describe(ch.status)
		} else {
			running = append(running, name)
		}
	}
	return running, ended
}
