package lab

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// inotifyLimit is the most inotify instances that all processes of one user may have together, inotify(7). Namespaces
// do not divide it, so that it is the one limit that labs share.
const inotifyLimit = "/proc/sys/fs/inotify/max_user_instances"

// What a lab needs of them: counted, and half as many again.
const (
	inotifyControlPlane = 12
	inotifyNode         = 12
)

// makeInotifyRoom raises the limit if the lab would not fit under it: the default of 128 is enough for about six nodes,
// and a kubelet without inotify instances never becomes ready. It is the one setting of the machine that a lab changes,
// never without need, and it says so.
func makeInotifyRoom(nodes int, progress io.Writer) error {
	b, err := os.ReadFile(inotifyLimit)
	if err != nil {
		return err
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("%s: %w", inotifyLimit, err)
	}
	used, err := inotifyInstances()
	if err != nil {
		return err
	}
	// twice what is needed: another lab may be starting at this moment
	need := 2 * (used + inotifyControlPlane + nodes*inotifyNode)
	if need <= limit {
		return nil
	}
	if err := os.WriteFile(inotifyLimit, []byte(strconv.Itoa(2*need)), 0o644); err != nil {
		return fmt.Errorf("raise fs.inotify.max_user_instances: %w", err)
	}
	fmt.Fprintf(progress, "fs.inotify.max_user_instances raised from %d to %d\n", limit, 2*need)
	return nil
}

// inotifyInstances counts the inotify instances of all processes.
func inotifyInstances() (int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, err
	}
	n := 0
	for _, f := range files {
		if target, err := os.Readlink(f); err == nil && target == "anon_inode:inotify" {
			n++
		}
	}
	return n, nil
}
