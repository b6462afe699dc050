package lab

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
)

// KubeProxyState returns the program that lets kube-proxy's own code write its rules into a network namespace, without a
// cluster (cmd/kubeproxy-state tells how). It is built when it is not in the cache yet; with Kubernetes built before, that
// takes seconds.
func KubeProxyState(ctx context.Context, progress io.Writer) (string, error) {
	if progress == nil {
		progress = io.Discard
	}
	b, err := newBuild(ctx, progress)
	if err != nil {
		return "", err
	}
	flags := []string{"-tags=labkube", "-trimpath", "-buildvcs=false", "-ldflags", linkerFlags(b.version)}
	key, err := fingerprint([]string{filepath.Join(b.source, "go.mod"), filepath.Join(b.source, "cmd/kubeproxy-state")},
		append(flags, runtime.Version(), runtime.GOARCH)...)
	if err != nil {
		return "", err
	}
	dir, err := b.cache.once(ctx, "kubeproxy-state-"+key, func(dir string) error {
		return b.compile(ctx, dir, flags, "./cmd/kubeproxy-state")
	})
	if err != nil {
		return "", fmt.Errorf("build kubeproxy-state: %w", err)
	}
	return filepath.Join(dir, "kubeproxy-state"), nil
}
