package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Programs are the built files that a lab needs. They are made once and kept in the user's cache directory, keyed by
// what they are made from.
type Programs struct {
	// Kubernetes is the version of Kubernetes, such as v1.37.2.
	Kubernetes string
	// Labkube is every Kubernetes program and etcd in one binary.
	Labkube string
	// Client makes connections and tells their fate.
	Client string
	// Routed is the CNI plugin of the network Routed.
	Routed string
	// Images is the archive of the lab's own images.
	Images string
}

// progressEvery is how often a long build reports.
const progressEvery = 10 * time.Second

// Build makes what is not in the cache yet and says on progress what it does. The first build of Kubernetes takes about
// 11 minutes on two cores; a second process that needs it meanwhile waits for it.
func Build(ctx context.Context, progress io.Writer) (Programs, error) {
	if progress == nil {
		progress = io.Discard
	}
	b, err := newBuild(ctx, progress)
	if err != nil {
		return Programs{}, err
	}
	labkube, err := b.labkube(ctx)
	if err != nil {
		return Programs{}, fmt.Errorf("build Kubernetes: %w", err)
	}
	small, err := b.programs(ctx)
	if err != nil {
		return Programs{}, fmt.Errorf("build the lab's programs: %w", err)
	}
	return Programs{
		Kubernetes: b.version, Labkube: labkube,
		Client: filepath.Join(small, "client"), Routed: filepath.Join(small, "routed"), Images: filepath.Join(small, builtInArchive),
	}, nil
}

// build is one run of Build.
type build struct {
	source   string
	cache    string
	version  string
	progress io.Writer
}

func newBuild(ctx context.Context, progress io.Writer) (*build, error) {
	source, err := sourceDir(ctx)
	if err != nil {
		return nil, err
	}
	version, err := kubernetesVersion(source)
	if err != nil {
		return nil, err
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find a place for built programs: %w", err)
	}
	b := &build{source: source, cache: filepath.Join(user, "svctrace-lab"), version: version, progress: progress}
	return b, os.MkdirAll(b.cache, 0o755)
}

func (b *build) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// labkube makes the big binary.
func (b *build) labkube(ctx context.Context) (string, error) {
	flags := []string{"-tags=labkube", "-trimpath", "-buildvcs=false", "-ldflags", linkerFlags(b.version)}
	key, err := fingerprint([]string{filepath.Join(b.source, "go.mod"), filepath.Join(b.source, "cmd/labkube")},
		append(flags, runtime.Version(), runtime.GOARCH)...)
	if err != nil {
		return "", err
	}
	dir, err := b.once(ctx, b.version+"-"+key, func(dir string) error {
		return b.compile(ctx, dir, flags, "./cmd/labkube")
	})
	return filepath.Join(dir, "labkube"), err
}

// linkerFlags strip the binary and stamp the version, without which kubelet and the API server say v0.0.0.
func linkerFlags(version string) string {
	flags := "-s -w"
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return flags
	}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, v := range [][2]string{
			{"gitVersion", version}, {"gitMajor", parts[0]}, {"gitMinor", parts[1]}, {"gitTreeState", "clean"},
			{"gitCommit", "lab"}, {"buildDate", "2026-01-01T00:00:00Z"},
		} {
			flags += fmt.Sprintf(" -X %s.%s=%s", pkg, v[0], v[1])
		}
	}
	return flags
}

// programs makes the small binaries and the images of them.
func (b *build) programs(ctx context.Context) (string, error) {
	in := func(dir string) string { return filepath.Join(b.source, dir) }
	key, err := fingerprint([]string{
		in("go.mod"), in("cmd/web"), in("cmd/client"), in("cmd/pause"), in("cmd/sidecar"), in("cmd/routed"),
		in("attempt"), in("image"), in("images.go"), busybox,
	}, runtime.Version(), runtime.GOARCH)
	if err != nil {
		return "", err
	}
	return b.once(ctx, "programs-"+key, func(dir string) error {
		flags := []string{"-trimpath", "-buildvcs=false", "-ldflags", "-s -w"}
		if err := b.compile(ctx, dir, flags, "./cmd/web", "./cmd/client", "./cmd/pause", "./cmd/sidecar", "./cmd/routed"); err != nil {
			return err
		}
		return writeImages(dir)
	})
}

// once makes a directory of the cache with make unless it is there. It appears in one step, complete. Other processes
// that want it wait.
func (b *build) once(ctx context.Context, name string, make func(dir string) error) (string, error) {
	dir := filepath.Join(b.cache, name)
	if done(dir) {
		now := time.Now()
		return dir, os.Chtimes(dir, now, now) // for prune
	}
	unlock, err := b.lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if done(dir) {
		return dir, nil
	}
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", err
	}
	if err := make(tmp); err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", err
	}
	return dir, b.prune()
}

// unusedFor is how long a directory of the cache is kept without use.
const unusedFor = 30 * 24 * time.Hour

// prune removes from the cache what has long not been used.
func (b *build) prune() error {
	entries, err := os.ReadDir(b.cache)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < unusedFor {
			continue
		}
		if err := os.RemoveAll(filepath.Join(b.cache, e.Name())); err != nil {
			return fmt.Errorf("prune the cache: %w", err)
		}
	}
	return nil
}

// done says whether a directory of the cache is there.
func done(dir string) bool {
	_, err := os.Stat(dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// lock takes the lock file for name, telling once that another process has it.
func (b *build) lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(b.cache, name+".lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	told := false
	err = until(ctx, 200*time.Millisecond, func() (bool, error) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			if !told {
				told = true
				b.say("waiting for another process that builds %s", name)
			}
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// compile builds packages into dir and reports how far it is: the go command names each package that it compiles.
func (b *build) compile(ctx context.Context, dir string, flags []string, packages ...string) error {
	list := b.goCommand(ctx, append([]string{"list", "-deps", "-tags=labkube"}, packages...)...)
	out, err := list.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		return fmt.Errorf("list packages: %w", err)
	}
	total := strings.Count(string(out), "\n")
	start := time.Now()
	b.say("building %s for the lab (%d packages; those compiled before are kept)", strings.Join(packages, " "), total)

	args := append([]string{"build", "-v", "-o", dir + "/"}, flags...)
	cmd := b.goCommand(ctx, append(args, packages...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var compiled atomic.Int64
	stop := make(chan struct{})
	go func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				b.say("  %d of at most %d packages compiled, %v", compiled.Load(), total, time.Since(start).Round(time.Second))
			}
		}
	}()
	var other []string // what is not a package's name: errors, mostly
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "go: downloading "):
		case strings.ContainsAny(line, " \t#:"):
			other = append(other, line)
		default:
			compiled.Add(1)
		}
	}
	err = cmd.Wait()
	close(stop)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, strings.Join(other, "\n"))
	}
	b.say("  built in %v", time.Since(start).Round(time.Second))
	return nil
}

func (b *build) goCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
