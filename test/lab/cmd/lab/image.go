package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab/image"
)

// imageFlags describe an image to make from binaries.
type imageFlags struct {
	binaries   []string
	name       string
	entrypoint string
}

// add adds the flags; name is what the flag for the image's name is called.
func (f *imageFlags) add(cmd *cobra.Command, name string) {
	cmd.Flags().StringSliceVar(&f.binaries, "binary", nil, "static Linux binary; one for each architecture")
	cmd.Flags().StringVar(&f.name, name, "kubectl-svctrace/svctrace-agent:v0.1.0", "the image's name")
	cmd.Flags().StringVar(&f.entrypoint, "entrypoint", "/svctrace-agent", "where the binary is in the image")
}

// spec reads which architecture each binary is for.
func (f *imageFlags) spec(gzip bool) (image.Spec, error) {
	s := image.Spec{Name: f.name, Entrypoint: []string{f.entrypoint}, Gzip: gzip}
	if !path.IsAbs(f.entrypoint) {
		return s, fmt.Errorf("--entrypoint: %q is not absolute", f.entrypoint)
	}
	for _, b := range f.binaries {
		arch, err := architecture(b)
		if err != nil {
			return s, err
		}
		s.Platforms = append(s.Platforms, image.Platform{
			Architecture: arch, Files: []image.File{{Path: f.entrypoint, Source: b}},
		})
	}
	return s, nil
}

// architecture is OCI's name for the machine that an ELF file is for.
func architecture(file string) (string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	defer f.Close()
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	}
	return "", fmt.Errorf("%s is for %v: want amd64 or arm64", file, f.Machine)
}

func imageCommand() *cobra.Command {
	var f imageFlags
	var out string
	cmd := &cobra.Command{
		Use:   "image --binary FILE [--binary FILE] -o ARCHIVE",
		Short: "Make an image archive (OCI layout in a tar file) from static binaries",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			spec, err := f.spec(true)
			if err != nil {
				return err
			}
			return image.Write(out, spec)
		},
	}
	f.add(cmd, "name")
	cmd.Flags().StringVarP(&out, "output", "o", "image.tar", "the archive to write")
	return cmd
}

func loadCommand(name *string) *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:   "load [ARCHIVE...] [--binary FILE]",
		Short: "Load image archives, or an image made of a binary, into every node",
		RunE: func(cmd *cobra.Command, archives []string) error {
			if len(archives) == 0 && len(f.binaries) == 0 {
				return errors.New("name an archive, or a --binary")
			}
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			if len(f.binaries) > 0 {
				dir, err := os.MkdirTemp("", "lab-load-")
				if err != nil {
					return err
				}
				defer os.RemoveAll(dir)
				spec, err := f.spec(false)
				if err != nil {
					return err
				}
				archive := filepath.Join(dir, "image.tar")
				if err := image.Write(archive, spec); err != nil {
					return err
				}
				archives = append(archives, archive)
			}
			for _, a := range archives {
				if err := l.Load(cmd.Context(), a); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(cmd, "image")
	return cmd
}
