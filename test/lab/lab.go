package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Lab is a running lab. Its methods may be called concurrently.
type Lab struct {
	state  state
	config config
	record record
	// lifeline, while open, keeps a lab alive that is not detached.
	lifeline *os.File
	client   kubernetes.Interface
	// BringUp is how long the lab took to be ready; zero if it was opened.
	BringUp time.Duration
}

// New starts a lab for a test and ends it with the test. It fails the test if the lab cannot be had. A lab's name, if
// the options have none, is made from the process's number.
func New(t testing.TB, o Options) *Lab {
	t.Helper()
	if o.Progress == nil {
		o.Progress = testLog{t}
	}
	l, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("start lab: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.logTails(testLog{t})
		}
		ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
		defer cancel()
		if err := l.Down(ctx); err != nil {
			t.Errorf("end lab %s: %v", l.Name(), err)
		}
	})
	return l
}

// testLog writes lines to a test's log.
type testLog struct{ t testing.TB }

func (w testLog) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Logf("%s", trimNewline(p))
	return len(p), nil
}

func trimNewline(p []byte) []byte {
	if n := len(p); n > 0 && p[n-1] == '\n' {
		return p[:n-1]
	}
	return p
}

// started counts the labs of this process, for their names.
var started atomic.Int64

// Start builds what is missing and starts a lab. Unless Options.Detach is set it ends when this process ends, however
// that happens. Start returns when nodes are ready, the lab's images and Options.Images are loaded, kube-proxy has
// written its rules, and pods can be made.
func Start(ctx context.Context, o Options) (*Lab, error) {
	if o.Name == "" {
		o.Name = fmt.Sprintf("t%d-%d", os.Getpid(), started.Add(1))
	}
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab needs root: it makes namespaces, mounts and cgroups")
	}
	if err := Missing(); err != nil {
		return nil, err
	}
	programs, err := Build(ctx, o.Progress)
	if err != nil {
		return nil, err
	}
	sweep(ctx)
	if err := makeInotifyRoom(o.Nodes, o.Progress); err != nil {
		return nil, err
	}
	begin := time.Now()
	s := stateOf(o.Name)
	if err := s.prepare(ctx, o, programs); err != nil {
		return nil, err
	}
	l, err := s.launch(ctx, o)
	if err != nil {
		return nil, err
	}
	l.BringUp = time.Since(begin)
	return l, nil
}

// prepare makes the lab's directory with all that its processes need, removing a dead lab of that name first.
func (s state) prepare(ctx context.Context, o Options, p Programs) error {
	if r, err := s.record(); err == nil && (r.Keeper.alive() || r.Init.alive()) {
		return fmt.Errorf("lab %s is up already: `lab down --name %s` ends it", o.Name, o.Name)
	}
	if err := s.down(ctx); err != nil {
		return fmt.Errorf("remove what is left of an earlier lab: %w", err)
	}
	if err := os.MkdirAll(s.path("bin"), 0o755); err != nil {
		return err
	}
	for name, file := range map[string]string{"labkube": p.Labkube, "client": p.Client, routedPlugin: p.Routed} {
		if err := link(file, s.bin(name)); err != nil {
			return err
		}
	}
	if err := os.Symlink("labkube", s.bin("kubectl")); err != nil {
		return err
	}
	cfg := config{Options: o}
	for _, file := range append([]string{p.Images}, o.Images...) {
		// nodes see the lab's directory for certain, but not every place of the machine
		target := s.path("images", fmt.Sprintf("%d-%s", len(cfg.Archives), filepath.Base(file)))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := link(file, target); err != nil {
			return err
		}
		cfg.Archives = append(cfg.Archives, target)
	}
	return writeJSON(s.path("config.json"), cfg)
}

// link gives a file a second name, or copies it where that cannot be.
func link(file, target string) error {
	if resolved, err := filepath.EvalSymlinks(file); err == nil {
		file = resolved
	}
	if err := os.Link(file, target); err == nil {
		return nil
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// launch starts the keeper and waits until the lab is ready.
func (s state) launch(ctx context.Context, o Options) (*Lab, error) {
	eventsRead, eventsWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer eventsRead.Close()
	defer eventsWrite.Close()
	lifeRead, lifeWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer lifeRead.Close()
	log, err := os.OpenFile(s.path("keeper.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(self)
	cmd.Args = []string{roleKeeper, string(s)}
	cmd.Env = []string{"PATH=" + systemPath, "HOME=/"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{eventsWrite, lifeRead}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	go func() { _ = cmd.Wait() }() // no zombie while this process lives
	if err := eventsWrite.Close(); err != nil {
		return nil, err
	}
	if err := awaitUp(ctx, eventsRead, o.Progress); err != nil {
		tails := s.tails()
		lifeWrite.Close()
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTimeout)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("lab %s: %w\n%s", o.Name, err, tails), s.down(down))
	}
	l, err := open(s)
	if err != nil {
		lifeWrite.Close()
		return nil, err
	}
	if o.Detach {
		lifeWrite.Close()
	} else {
		l.lifeline = lifeWrite
	}
	return l, nil
}

// awaitUp reads init's events until the lab is ready.
func awaitUp(ctx context.Context, r *os.File, progress io.Writer) error {
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var ev event
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			return fmt.Errorf("read progress: %w", err)
		}
		switch {
		case ev.Error != "":
			return errors.New(ev.Error)
		case ev.Up:
			fmt.Fprintf(progress, "%6.1fs  up\n", ev.After.Seconds())
			return nil
		default:
			fmt.Fprintf(progress, "%6.1fs  %s\n", ev.After.Seconds(), ev.Step)
		}
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return errors.New("the lab ended while it was starting")
}

// Open finds a running lab by its name. It returns an error that wraps fs.ErrNotExist if there is none.
func Open(name string) (*Lab, error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("%q is not a lab's name", name)
	}
	return open(stateOf(name))
}

func open(s state) (*Lab, error) {
	r, err := s.record()
	if err != nil {
		return nil, fmt.Errorf("no lab %s: %w", s.name(), err)
	}
	if !r.Init.alive() {
		return nil, fmt.Errorf("lab %s has ended: %w", s.name(), fs.ErrNotExist)
	}
	cfg, err := s.config()
	if err != nil {
		return nil, err
	}
	l := &Lab{state: s, config: cfg, record: r}
	rc, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	if l.client, err = kubernetes.NewForConfig(rc); err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return l, nil
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.state.name() }

// Options are the options the lab was started with, completed.
func (l *Lab) Options() Options { return l.config.Options }

// Dir is the directory of the lab's files; logs are in DIR/cp and DIR/nodeN.
func (l *Lab) Dir() string { return string(l.state) }

// Kubeconfig is the file name of an administrator's kubeconfig. It is good inside the lab (see Place.Run); from outside
// use RESTConfig.
func (l *Lab) Kubeconfig() string { return l.state.kubeconfig("admin") }

// RESTConfig is an administrator's client configuration for this process, which is outside of the lab: connections are
// made in the control plane's network namespace.
func (l *Lab) RESTConfig() (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read the lab's kubeconfig: %w", err)
	}
	cfg.QPS = -1 // no throttling: there is one server and it is near
	cfg.Dial = l.Dial
	return cfg, nil
}

// Client is an administrator's client of the API server.
func (l *Lab) Client() kubernetes.Interface { return l.client }

// Dial connects from the control plane's network namespace. The address must be numeric.
func (l *Lab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := inNamespace(l.netns(controlPlaneName), func() error {
		var err error
		// one numeric address: the dialer makes its socket on this very thread
		conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// netns is the path of one of the lab's network namespaces, as seen from outside.
func (l *Lab) netns(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", l.record.Init.PID, namedNamespace(name))
}

// Down ends the lab and removes all of it. A second call does nothing.
func (l *Lab) Down(ctx context.Context) error {
	err := l.state.down(ctx)
	if l.lifeline != nil {
		_ = l.lifeline.Close()
	}
	return err
}
