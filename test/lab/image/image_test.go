package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func TestCanonicalNamesAreThoseKubeletAsksFor(t *testing.T) {
	for name, want := range map[string]string{
		"lab.test/web:1":     "lab.test/web:1",
		"lab.test/web":       "lab.test/web:latest",
		"localhost:5000/a/b": "localhost:5000/a/b:latest",
	} {
		if got, err := Canonical(name); err != nil || got != want {
			t.Errorf("Canonical(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	// a name without a registry gets the default one
	for name, want := range map[string]string{
		"web": "/library/web:latest", "kubectl-svctrace/svctrace-agent:v0.1.0": "/kubectl-svctrace/svctrace-agent:v0.1.0",
	} {
		got, err := Canonical(name)
		if host, ok := strings.CutSuffix(got, want); err != nil || !ok || !strings.Contains(host, ".") {
			t.Errorf("Canonical(%q) = %q, %v; want HOST%s", name, got, err, want)
		}
	}
	for _, name := range []string{"", "Upper/Case:1", "a b"} {
		if got, err := Canonical(name); err == nil {
			t.Errorf("Canonical(%q) = %q, want an error", name, got)
		}
	}
}

// extract unpacks an image tar, so that go-containerregistry's own reader can judge it.
// It expects gzip in every layer, so only compressed images are validated in full.
func extract(t *testing.T, b []byte, full bool) v1.ImageIndex {
	t.Helper()
	dir := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if full {
		if err := validate.Index(index); err != nil {
			t.Fatalf("image is not valid: %v", err)
		}
	}
	return index
}

func files(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	rc, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	got := map[string]string{}
	for r := tar.NewReader(rc); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Linkname != "" {
			got[h.Name] = "-> " + h.Linkname
		} else {
			got[h.Name] = string(content)
		}
	}
}

func binary(t *testing.T, content string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(p, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOnePlatform(t *testing.T) {
	for _, gzip := range []bool{false, true} {
		spec := Spec{
			Name:       "lab.test/web:1",
			Entrypoint: []string{"/web"},
			Gzip:       gzip,
			Platforms: []Platform{{Architecture: "amd64", Files: []File{
				{Path: "/web", Source: binary(t, "I am web")}, {Path: "/usr/bin/w", Link: "/web"},
			}}},
		}
		var first, second bytes.Buffer
		if err := Encode(&first, spec); err != nil {
			t.Fatal(err)
		}
		if err := Encode(&second, spec); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Error("two encodings of the same image differ")
		}
		index := extract(t, first.Bytes(), gzip)
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if len(manifest.Manifests) != 1 || manifest.Manifests[0].Annotations[nameAnnotation] != "lab.test/web:1" {
			t.Fatalf("manifests %+v", manifest.Manifests)
		}
		img, err := index.Image(manifest.Manifests[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"tmp/": "", "etc/": "", "usr/": "", "usr/bin/": "", "web": "I am web", "usr/bin/w": "-> /web",
			"etc/passwd": "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		}
		if diff := cmp.Diff(want, files(t, img)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		cfg, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.OS != "linux" || cfg.Architecture != "amd64" || !cmp.Equal(cfg.Config.Entrypoint, []string{"/web"}) {
			t.Errorf("configuration %+v", cfg)
		}
	}
}

func TestTwoPlatforms(t *testing.T) {
	var out bytes.Buffer
	if err := Encode(&out, Spec{
		Name: "svctrace-agent:v0.1.0", Entrypoint: []string{"/svctrace-agent"}, Gzip: true,
		Platforms: []Platform{
			{Architecture: "amd64", Files: []File{{Path: "/svctrace-agent", Source: binary(t, "x86")}}},
			{Architecture: "arm64", Files: []File{{Path: "/svctrace-agent", Source: binary(t, "arm")}}},
		},
	}); err != nil {
		t.Fatal(err)
	}
	index := extract(t, out.Bytes(), true)
	top, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Manifests) != 1 {
		t.Fatalf("%d manifests at the top, want one index", len(top.Manifests))
	}
	inner, err := index.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range manifest.Manifests {
		img, err := inner.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		got[d.Platform.Architecture] = files(t, img)["svctrace-agent"]
	}
	if diff := cmp.Diff(map[string]string{"amd64": "x86", "arm64": "arm"}, got); diff != "" {
		t.Errorf("binaries (-want +got):\n%s", diff)
	}
}

func TestSeveralImagesInOneArchive(t *testing.T) {
	var out bytes.Buffer
	spec := func(name string) Spec {
		return Spec{Name: name, Platforms: []Platform{{Architecture: "amd64", Files: []File{{Path: "/a", Source: binary(t, name)}}}}}
	}
	if err := Encode(&out, spec("lab.test/one:1"), spec("lab.test/two")); err != nil {
		t.Fatal(err)
	}
	index := extract(t, out.Bytes(), false)
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		got[d.Annotations[nameAnnotation]] = files(t, img)["a"]
	}
	want := map[string]string{"lab.test/one:1": "lab.test/one:1", "lab.test/two:latest": "lab.test/two"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
}

func TestMistakesAreErrors(t *testing.T) {
	good := []Platform{{Architecture: "amd64"}}
	for name, spec := range map[string]Spec{
		"bad name":      {Name: "Not A Name", Platforms: good},
		"no platform":   {Name: "a"},
		"missing file":  {Name: "a", Platforms: []Platform{{Files: []File{{Path: "/a", Source: "does-not-exist"}}}}},
		"relative path": {Name: "a", Platforms: []Platform{{Files: []File{{Path: "a", Link: "b"}}}}},
	} {
		if err := Encode(io.Discard, spec); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := Write(file, Spec{Name: "a"}); err == nil {
		t.Error("Write: no error")
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 0 {
		t.Errorf("a failed Write left %v, %v", entries, err)
	}
}
