package lab

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// tailLines is how many last lines of a log are worth showing.
const tailLines = 15

// logTails writes the last lines of every log of the lab.
func (l *Lab) logTails(w io.Writer) { fmt.Fprintln(w, l.state.tails()) }

func (s state) tails() string {
	var out strings.Builder
	for _, pattern := range []string{"*.log", "*/*.log"} {
		files, err := filepath.Glob(s.path(pattern))
		if err != nil {
			continue
		}
		for _, f := range files {
			fmt.Fprintf(&out, "--- %s\n%s", strings.TrimPrefix(f, string(s)+"/"), tail(f))
		}
	}
	return out.String()
}

// tail is the end of a file, at most tailLines lines and 8 KiB.
func tail(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error() + "\n"
	}
	defer f.Close()
	const most = 8 << 10
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return err.Error() + "\n"
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err.Error() + "\n"
	}
	lines := strings.SplitAfter(string(b), "\n")
	return strings.Join(lines[max(0, len(lines)-1-tailLines):], "")
}
