package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Place is where a command runs or a connection starts: the control plane, a node, a pod, or the outside.
type Place struct {
	lab  *Lab
	name string
	// netns is the path of the network namespace.
	netns func(context.Context) (string, error)
	// enter are nsenter's options for all of the place's namespaces.
	enter func(context.Context) ([]string, error)
	// dir is the working directory of commands; empty means the caller's.
	dir string
	// bare places have programs of their own and no environment of the lab's.
	bare bool
}

// String is the place's name: cp, outside, router, beyond, node1, or pod NAMESPACE/NAME.
func (p *Place) String() string { return p.name }

// ControlPlane is where etcd, the API server, the controller manager and the scheduler run: a network namespace of its
// own, with the machine's file system.
func (l *Lab) ControlPlane() *Place { return l.member(controlPlaneName) }

// Outside is a host on the nodes' network that is not part of the cluster: the client from outside. It has the
// machine's file system.
func (l *Lab) Outside() *Place { return l.member(outsideName) }

// Router is the router between the nodes' network and Beyond, if Options.Beyond: eth0 is on the nodes' network.
func (l *Lab) Router() *Place { return l.member(routerName) }

// Beyond is a client in a network of its own behind Router, if Options.Beyond. It has the machine's file system.
func (l *Lab) Beyond() *Place { return l.member(beyondName) }

// member is a namespace other than a node's or a pod's.
func (l *Lab) member(name string) *Place {
	netns := l.netns(name)
	return &Place{
		lab: l, name: name,
		netns: func(context.Context) (string, error) { return netns, nil },
		enter: func(context.Context) ([]string, error) {
			return []string{fmt.Sprintf("--target=%d", l.record.Init.PID), "--mount", "--pid", "--uts", "--net=" + netns}, nil
		},
	}
}

// Place finds a place by the name that String gives it, but for pods.
func (l *Lab) Place(name string) (*Place, error) {
	switch name {
	case controlPlaneName, outsideName:
		return l.member(name), nil
	case routerName, beyondName:
		if l.config.Options.Beyond {
			return l.member(name), nil
		}
	}
	for i := range l.config.Options.Nodes {
		if name == nodeName(i+1) {
			return l.Node(i + 1).Place, nil
		}
	}
	return nil, fmt.Errorf("no place %q in lab %s: want cp, outside or node1 to %s", name, l.Name(), nodeName(l.config.Options.Nodes))
}

// RunError is a command's failure.
type RunError struct {
	// Place and Command say what was run where.
	Place   string
	Command []string
	// Stderr is what the command said, Err how it ended: mostly an *exec.ExitError.
	Stderr string
	Err    error
}

// Error implements error.
func (e *RunError) Error() string {
	return fmt.Sprintf("%s on %s: %v: %s", strings.Join(e.Command, " "), e.Place, e.Err, strings.TrimSpace(e.Stderr))
}

// Unwrap makes errors.As find the *exec.ExitError.
func (e *RunError) Unwrap() error { return e.Err }

// Command prepares a command that will run in all of the place's namespaces; streams are the caller's to set. Except
// in pods, the lab's programs (kubectl, client) are on PATH and KUBECONFIG is set.
func (p *Place) Command(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	enter, err := p.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("enter %s: %w", p, err)
	}
	dir := p.dir
	if dir == "" {
		if dir, err = os.Getwd(); err != nil {
			return nil, fmt.Errorf("find working directory: %w", err)
		}
	}
	return p.lab.nsenter(ctx, append(enter, "--wdns="+dir), p.bare, append([]string{program}, args...)), nil
}

// nsenter is the command that enters namespaces and runs argv there. When the context ends, all of it is killed.
func (l *Lab) nsenter(ctx context.Context, enter []string, bare bool, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append(append(enter, "--"), argv...)...)
	if bare {
		cmd.Env = []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin:/"}
	} else {
		path := os.Getenv("PATH")
		if path == "" {
			path = systemPath
		}
		cmd.Env = append(os.Environ(), "PATH="+l.state.path("bin")+":/usr/local/sbin:"+path+":"+systemPath, "KUBECONFIG="+l.Kubeconfig())
	}
	// nsenter's child, in another pid namespace, would outlive nsenter: they are killed as one process group
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs a command in the place and returns what it wrote to standard output. A failure is a *RunError.
func (p *Place) Run(ctx context.Context, program string, args ...string) (string, error) {
	return p.RunInput(ctx, "", program, args...)
}

// RunInput is Run with something on standard input.
func (p *Place) RunInput(ctx context.Context, input, program string, args ...string) (string, error) {
	cmd, err := p.Command(ctx, program, args...)
	if err != nil {
		return "", err
	}
	return p.output(cmd, input, append([]string{program}, args...))
}

func (p *Place) output(cmd *exec.Cmd, input string, argv []string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), &RunError{Place: p.String(), Command: argv, Stderr: stderr.String(), Err: err}
	}
	return stdout.String(), nil
}

// Kubectl runs kubectl in the control plane's namespace. Plugins on PATH work.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	return l.ControlPlane().Run(ctx, l.state.bin("kubectl"), args...)
}
