// Package image makes container images from static binaries: an OCI image layout in one tar file, as containerd and
// other tools import it. The same inputs give the same bytes.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// nameAnnotation is where containerd looks for an image's name in an OCI index; refAnnotation is OCI's own.
const (
	nameAnnotation = "io.containerd.image.name"
	refAnnotation  = "org.opencontainers.image.ref.name"
)

// File is one file of an image.
type File struct {
	// Path is where the file is in the image, absolute.
	Path string
	// Source is the file on this machine; not used for links.
	Source string
	// Link, when not empty, makes the file a symbolic link to it.
	Link string
}

// Platform is one architecture's variant of an image.
type Platform struct {
	// Architecture is Go's and OCI's name for it: amd64, arm64.
	Architecture string
	// Files are what the variant holds beside /etc/passwd and /tmp.
	Files []File
}

// Spec describes an image.
type Spec struct {
	// Name is the reference, in any form that kubelet accepts; it is made canonical.
	Name string
	// Platforms holds one or more variants. With one, the image is a plain manifest; with more, an index.
	Platforms []Platform
	// Entrypoint is the program and its first arguments.
	Entrypoint []string
	// Gzip compresses the layers: smaller for sending, slower for importing on the spot.
	Gzip bool
}

// Canonical is the full form of an image reference, the one under which a container runtime files it: registry,
// repository and tag.
func Canonical(name string) (string, error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", fmt.Errorf("image reference %q: %w", name, err)
	}
	return named.String(), nil
}

// Write makes an archive of images at the path file, replacing what is there as a whole.
func Write(file string, images ...Spec) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".image-*")
	if err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	defer os.Remove(tmp.Name())
	err = Encode(tmp, images...)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	return nil
}

// Encode writes images to w as a tar file of one OCI image layout.
func Encode(w io.Writer, images ...Spec) error {
	root := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, spec := range images {
		entry, err := spec.entry()
		if err != nil {
			return fmt.Errorf("image %s: %w", spec.Name, err)
		}
		root = mutate.AppendManifests(root, entry)
	}
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := layout.Write(dir, root); err != nil {
		return fmt.Errorf("lay out images: %w", err)
	}
	return tarDirectory(dir, w)
}

// entry builds the image, and describes it as the layout's index shall.
func (s Spec) entry() (mutate.IndexAddendum, error) {
	var entry mutate.IndexAddendum
	name, err := Canonical(s.Name)
	if err != nil {
		return entry, err
	}
	all := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range s.Platforms {
		img, err := s.platform(p)
		if err != nil {
			return entry, fmt.Errorf("for %s: %w", p.Architecture, err)
		}
		entry = mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: p.Architecture},
		}}
		all = mutate.AppendManifests(all, entry)
	}
	switch len(s.Platforms) {
	case 0:
		return entry, errors.New("no platform")
	case 1:
	default:
		entry = mutate.IndexAddendum{Add: all}
	}
	entry.Annotations = map[string]string{nameAnnotation: name, refAnnotation: name}
	return entry, nil
}

// platform builds one variant: a single layer and its configuration.
func (s Spec) platform(p Platform) (v1.Image, error) {
	content, err := layer(p.Files)
	if err != nil {
		return nil, err
	}
	l := static.NewLayer(content, types.OCIUncompressedLayer)
	if s.Gzip {
		if l, err = compressed(content); err != nil {
			return nil, err
		}
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, l); err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", p.Architecture
	cfg.Config.Entrypoint = s.Entrypoint
	cfg.Config.Env = []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin:/"}
	return mutate.ConfigFile(img, cfg)
}

// layer writes files, sorted and with their parent directories, as an uncompressed tar.
func layer(files []File) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	seen := map[string]bool{"": true}
	var directory func(dir string, mode int64) error
	directory = func(dir string, mode int64) error {
		dir = strings.Trim(dir, "/")
		if seen[dir] || dir == "." {
			return nil
		}
		seen[dir] = true
		if err := directory(path.Dir(dir), 0o755); err != nil {
			return err
		}
		return w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: mode})
	}
	regular := func(name string, mode int64, content []byte) error {
		if err := directory(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	if err := directory("tmp", 0o1777); err != nil {
		return nil, err
	}
	passwd := []byte("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
	if err := regular("/etc/passwd", 0o644, passwd); err != nil {
		return nil, err
	}
	for _, f := range files {
		if !path.IsAbs(f.Path) {
			return nil, fmt.Errorf("path %q is not absolute", f.Path)
		}
		if f.Link != "" {
			if err := directory(path.Dir(f.Path), 0o755); err != nil {
				return nil, err
			}
			if err := w.WriteHeader(&tar.Header{
				Name: strings.TrimPrefix(f.Path, "/"), Typeflag: tar.TypeSymlink, Linkname: f.Link, Mode: 0o777,
			}); err != nil {
				return nil, err
			}
			continue
		}
		content, err := os.ReadFile(f.Source)
		if err != nil {
			return nil, err
		}
		if err := regular(f.Path, 0o755, content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// tarDirectory writes the regular files below dir to w, sorted, without times or owners.
func tarDirectory(dir string, w io.Writer) error {
	out := tar.NewWriter(w)
	root := os.DirFS(dir)
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		f, err := root.Open(filepath.ToSlash(rel))
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if err := out.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o644, Size: info.Size()}); err != nil {
			return err
		}
		_, err = io.Copy(out, f)
		return err
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// compressed is a gzip layer of an uncompressed tar.
func compressed(content []byte) (v1.Layer, error) {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return newGzipLayer(buf.Bytes(), content)
}
