package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// bringUpTimeout is how long a lab may take to be ready; on two idle cores it takes a tenth of that.
const bringUpTimeout = 3 * time.Minute

// pollEvery is the pause between two looks at something that is expected within seconds.
const pollEvery = 50 * time.Millisecond

// initMain is process 1 of a lab, in pid, mount, network and UTS namespaces of its own. It brings everything up,
// reports that on the events file, and then stays: when it ends, everything ends.
func initMain(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one argument is needed, got %d", len(args))
	}
	unix.CloseOnExec(eventsFD)
	e := events{w: os.NewFile(eventsFD, "events"), start: time.Now()}
	i := labInit{state: state(args[0]), events: e, children: newChildren()}
	ctx, cancel := context.WithTimeout(context.Background(), bringUpTimeout)
	defer cancel()
	if err := i.bringUp(ctx); err != nil {
		e.send(event{Error: err.Error()})
		return err
	}
	e.send(event{Up: true})
	select {}
}

type labInit struct {
	state    state
	config   config
	events   events
	children *children
	control  *supervisor
	client   kubernetes.Interface
}

func (i *labInit) bringUp(ctx context.Context) error {
	var err error
	if i.config, err = i.state.config(); err != nil {
		return err
	}
	if err := i.ownMounts(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(i.state.name())); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	o := i.config.Options
	if err := buildNetwork(o); err != nil {
		return err
	}
	i.events.step("network")
	for n := range o.Nodes {
		if err := i.startNode(n + 1); err != nil {
			return err
		}
	}
	if err := writePKI(i.state, o); err != nil {
		return err
	}
	i.events.step("certificates")
	if err := i.startControlPlane(ctx); err != nil {
		return err
	}
	i.events.step("API server")
	if err := i.createNodes(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for n := range o.Nodes {
		group.Go(func() error { return i.awaitNode(ctx, n+1) })
	}
	group.Go(func() error { return i.awaitServiceAccount(ctx) })
	return group.Wait()
}

// ownMounts separates the lab's mounts from the machine's, with /proc of the lab's own processes and a /run of its own.
func (i *labInit) ownMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return os.MkdirAll(netnsDir, 0o755)
}

// startNode starts the process that becomes node n.
func (i *labInit) startNode(n int) error {
	name := nodeName(n)
	dir := i.state.path(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(i.state.path(name, "node.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self)
	cmd.Args = []string{roleNode, string(i.state), fmt.Sprint(n)}
	cmd.Env = []string{"PATH=" + systemPath, "HOME=/"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if _, err := i.children.start(cmd, name); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return nil
}

// startControlPlane starts etcd and the API server, and the rest once the API server is ready.
func (i *labInit) startControlPlane(ctx context.Context) error {
	dir := i.state.path(controlPlaneName)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	i.control = newSupervisor(i.children, controlPlaneName, dir, controlPlaneCommands(i.state, i.config.Options))
	if err := serveControl(i.state.control(controlPlaneName), i.control.handle); err != nil {
		return err
	}
	for _, c := range []Component{Etcd, APIServer} {
		if err := i.control.start(c); err != nil {
			return err
		}
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", i.state.kubeconfig("admin"))
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	cfg.QPS = -1
	if i.client, err = kubernetes.NewForConfig(cfg); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	if err := i.await(ctx, "the API server to be ready", func(ctx context.Context) error {
		return i.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	}); err != nil {
		return err
	}
	for _, c := range []Component{ControllerManager, Scheduler} {
		if err := i.control.start(c); err != nil {
			return err
		}
	}
	return nil
}

// await calls f until it succeeds. The error names the last reason why it did not, and a component that has ended.
func (i *labInit) await(ctx context.Context, what string, f func(context.Context) error) error {
	var last error
	err := until(ctx, pollEvery, func() (bool, error) {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if last = f(attempt); last == nil {
			return true, nil
		}
		if _, ended := i.control.states(); len(ended) > 0 {
			return false, fmt.Errorf("of the control plane has ended: %v (logs in %s)", ended, i.control.logs)
		}
		return false, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("wait for %s: %w (last: %w)", what, err, last)
	}
	return err
}

// createNodes makes the Node objects before kubelets do, so that pod ranges are what the routes expect.
func (i *labInit) createNodes(ctx context.Context) error {
	a := addresses{i.config.Options.Family}
	for n := range i.config.Options.Nodes {
		name := nodeName(n + 1)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
		for _, pods := range a.pods(n + 1) {
			node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, pods.String())
		}
		node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
		// kube-proxy reads a node's addresses once, at its start, and kubelet may be later
		for _, addr := range a.node(n + 1) {
			node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: addr.String()})
		}
		if _, err := i.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create node %s: %w", name, err)
		}
	}
	return nil
}

// awaitNode starts kubelet and kube-proxy on node n as soon as its container runtime is there, and waits until the node
// is ready, its images are loaded and kube-proxy has written its rules.
func (i *labInit) awaitNode(ctx context.Context, n int) error {
	name := nodeName(n)
	control := i.state.control(name)
	logs := i.state.path(name)
	runs := func(ctx context.Context, c Component) error {
		reply, err := askControl(ctx, control, controlRequest{Do: "status"})
		if err != nil {
			return err
		}
		if !slices.Contains(reply.Running, c) {
			return fmt.Errorf("%s does not run (logs in %s)", c, logs)
		}
		return nil
	}
	if err := i.await(ctx, name+"'s container runtime", func(ctx context.Context) error { return runs(ctx, Containerd) }); err != nil {
		return err
	}
	for _, c := range []Component{KubeProxy, Kubelet} {
		if _, err := askControl(ctx, control, controlRequest{Do: "start", Component: c}); err != nil {
			return fmt.Errorf("start %s on %s: %w", c, name, err)
		}
	}
	if err := i.await(ctx, name+" to be ready", func(ctx context.Context) error { return i.nodeReady(ctx, name) }); err != nil {
		return err
	}
	i.events.step("%s is ready", name)
	address := addresses{i.config.Options.Family}.node(n)[0]
	dial := (&net.Dialer{}).DialContext
	if err := i.await(ctx, name+"'s kube-proxy", func(ctx context.Context) error { return proxySynced(ctx, address, dial) }); err != nil {
		return err
	}
	i.events.step("%s's kube-proxy has synced", name)
	return i.await(ctx, name+"'s images", func(ctx context.Context) error {
		reply, err := askControl(ctx, control, controlRequest{Do: "status"})
		if err == nil && !reply.Loaded {
			err = errors.New("not loaded yet")
		}
		return err
	})
}

func (i *labInit) nodeReady(ctx context.Context, name string) error {
	node, err := i.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
	}
	return errors.New("no Ready condition")
}

// awaitServiceAccount waits for what every pod needs; the controller manager makes it.
func (i *labInit) awaitServiceAccount(ctx context.Context) error {
	err := i.await(ctx, "the default service account", func(ctx context.Context) error {
		_, err := i.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return errors.New("not there yet")
		}
		return err
	})
	if err == nil {
		i.events.step("service account")
	}
	return err
}
