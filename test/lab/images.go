package lab

import (
	"path/filepath"
	"runtime"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab/image"
)

// The images that every node has.
const (
	// PauseImage holds pods' namespaces.
	PauseImage = "lab.test/pause:1"
	// WebImage is the server that tells who answered (command web), on port 8080 unless told otherwise.
	WebImage = "lab.test/web:1"
	// ClientImage sleeps; it has the program client, and busybox's shell and commands.
	ClientImage = "lab.test/client:1"
	// SidecarImage is a proxy that connections are redirected to; SidecarPod uses it.
	SidecarImage = "lab.test/sidecar:1"
)

// busybox is Debian's static one.
const busybox = "/bin/busybox"

// applets are the commands of busybox in the client image.
var applets = []string{"cat", "echo", "env", "hostname", "id", "ip", "ls", "mount", "nc", "ping", "ps", "sh", "sleep", "wget"}

// builtInImages are the images made of the lab's own programs.
var builtInImages = []struct {
	program, name string
	entrypoint    []string
	shell         bool
}{
	{program: "pause", name: PauseImage, entrypoint: []string{"/pause"}},
	{program: "web", name: WebImage, entrypoint: []string{"/web"}},
	{program: "sidecar", name: SidecarImage, entrypoint: []string{"/sidecar"}},
	{program: "client", name: ClientImage, entrypoint: []string{"/client", "sleep"}, shell: true},
}

// builtInArchive is the file name of the archive of the built-in images. (One archive for all: containerd takes imports
// of several at a time only one after another, with pauses.)
const builtInArchive = "images.tar"

// writeImages makes the archive of the built-in images beside the programs in dir.
func writeImages(dir string) error {
	var all []image.Spec
	for _, i := range builtInImages {
		files := []image.File{{Path: "/" + i.program, Source: filepath.Join(dir, i.program)}}
		if i.shell {
			files = append(files, image.File{Path: "/bin/busybox", Source: busybox})
			for _, a := range applets {
				files = append(files, image.File{Path: "/bin/" + a, Link: "busybox"})
			}
		}
		all = append(all, image.Spec{
			Name:       i.name,
			Platforms:  []image.Platform{{Architecture: runtime.GOARCH, Files: files}},
			Entrypoint: i.entrypoint,
		})
	}
	return image.Write(filepath.Join(dir, builtInArchive), all...)
}
