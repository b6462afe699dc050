package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
	cache    cache
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
	b := &build{source: source, version: version, progress: progress}
	b.cache, err = userCache(b.say)
	return b, err
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
	dir, err := b.cache.once(ctx, b.version+"-"+key, func(dir string) error {
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
	return b.cache.once(ctx, "programs-"+key, func(dir string) error {
		flags := []string{"-trimpath", "-buildvcs=false", "-ldflags", "-s -w"}
		if err := b.compile(ctx, dir, flags, "./cmd/web", "./cmd/client", "./cmd/pause", "./cmd/sidecar", "./cmd/routed"); err != nil {
			return err
		}
		return writeImages(dir)
	})
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
