package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// modulePath is this module's path.
const modulePath = "github.com/kubectl-svctrace/kubectl-svctrace/test/lab"

// sourceDir finds this module's source: where it was compiled from, or else where the go command finds the module from
// the working directory.
func sourceDir(ctx context.Context) (string, error) {
	if _, file, _, ok := runtime.Caller(0); ok {
		dir := filepath.Dir(file)
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", modulePath)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("find the lab's source (run this inside the repository): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// kubernetesVersion reads which Kubernetes the module requires: the version that the lab runs.
func kubernetesVersion(source string) (string, error) {
	f, err := os.Open(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) >= 2 && fields[0] == "k8s.io/kubernetes" {
			return fields[1], nil
		}
	}
	return "", errors.New("go.mod does not require k8s.io/kubernetes")
}

// fingerprint is a short hash over the contents of files and Go packages' directories, and over some words.
func fingerprint(paths []string, words ...string) (string, error) {
	h := sha256.New()
	for _, w := range words {
		fmt.Fprintf(h, "%q\n", w)
	}
	for _, p := range paths {
		files := []string{p}
		if info, err := os.Stat(p); err != nil {
			return "", err
		} else if info.IsDir() {
			if files, err = filepath.Glob(filepath.Join(p, "*.go")); err != nil {
				return "", err
			}
			files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
			slices.Sort(files)
		}
		for _, file := range files {
			if err := hashFile(h, file); err != nil {
				return "", err
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

func hashFile(h io.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(h, "%s\n", filepath.Base(file))
	_, err = io.Copy(h, f)
	return err
}
