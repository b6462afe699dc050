package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long a node's first steps may take.
const (
	containerdTimeout  = time.Minute
	imageImportTimeout = 2 * time.Minute
)

const containerdSocket = "/run/containerd/containerd.sock"

// nodeArguments reads the arguments of the two roles of a node.
func nodeArguments(args []string) (state, int, error) {
	if len(args) != 2 {
		return "", 0, fmt.Errorf("two arguments are needed, got %d", len(args))
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 1 || n > MaxNodes {
		return "", 0, fmt.Errorf("%q is not a node's number", args[1])
	}
	return state(args[0]), n, nil
}

// nodeMain runs in the node's network namespace. It joins the node's cgroups, and starts the node's process 1 in the
// other namespaces: a cgroup namespace has as its root the groups of the process that makes it.
func nodeMain(args []string) error {
	s, n, err := nodeArguments(args)
	if err != nil {
		return err
	}
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	if err := joinCgroups(hs, s.cgroup(), nodeName(n)); err != nil {
		return err
	}
	runtime.LockOSThread() // the parent that Pdeathsig speaks of is this thread
	cmd := exec.Command(self)
	cmd.Args = []string{roleNodeInit, string(s), args[1]}
	cmd.Env = os.Environ()
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC |
			syscall.CLONE_NEWCGROUP,
		Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("node init: %w", err)
	}
	return nil
}

// nodeInitMain is process 1 of a node. It makes the node's file system, starts containerd, loads the images, and starts
// and stops what it is told to on its control socket.
func nodeInitMain(args []string) error {
	s, n, err := nodeArguments(args)
	if err != nil {
		return err
	}
	cfg, err := s.config()
	if err != nil {
		return err
	}
	name := nodeName(n)
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	if err := enterNodeRoot(s, name, hs); err != nil {
		return err
	}
	files := newNodeFiles(s, cfg.Options, n)
	if err := files.write(); err != nil {
		return err
	}
	children := newChildren()
	sup := newSupervisor(children, "", s.path(name), files.commands())
	if err := sup.start(Containerd); err != nil {
		return err
	}
	if err := awaitSocket(containerdSocket, containerdTimeout); err != nil {
		return err
	}
	var loaded atomic.Bool
	if err := serveControl(s.control(name), func(r controlRequest) controlReply {
		reply := sup.handle(r)
		reply.Loaded = loaded.Load()
		return reply
	}); err != nil {
		return err
	}
	if err := importArchives(children, cfg.Archives); err != nil {
		return err
	}
	loaded.Store(true)
	select {}
}

// awaitSocket waits until something listens on a unix socket.
func awaitSocket(path string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := until(ctx, 20*time.Millisecond, func() (bool, error) {
		conn, err := dialControl(ctx, path)
		if err == nil {
			conn.Close()
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", path, err)
	}
	return nil
}

// importArchives gives the archives' images to the node's containerd.
func importArchives(c *children, archives []string) error {
	for _, file := range archives {
		cmd := exec.Command("ctr", "--namespace", "k8s.io", "images", "import", file)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := c.run(cmd, imageImportTimeout); err != nil {
			return fmt.Errorf("load image archive %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

// commands are the command lines of a node's components.
func (f *nodeFiles) commands() map[Component][]string {
	labkube := f.state.bin("labkube")
	return map[Component][]string{
		Containerd: {"containerd"},
		Kubelet: {
			labkube, "kubelet", "--v=2",
			"--config=/etc/kubernetes/kubelet.yaml",
			"--kubeconfig=" + f.state.kubeconfig(f.Name),
			"--node-ip=" + strings.Join(f.Addresses, ","),
			"--hostname-override=" + f.Name,
		},
		KubeProxy: {labkube, "kube-proxy", "--v=2", "--config=/etc/kubernetes/kube-proxy.yaml"},
	}
}
