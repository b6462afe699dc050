package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// testCache is an empty cache that keeps what it says in *said.
func testCache(t *testing.T) (c cache, said *[]string) {
	said = new([]string)
	return cache{dir: t.TempDir(), say: func(format string, args ...any) { *said = append(*said, fmt.Sprintf(format, args...)) }}, said
}

// put makes entries and other files that were last used so many days ago.
func (c cache) put(t *testing.T, days int, names ...string) {
	t.Helper()
	for _, n := range names {
		path := filepath.Join(c.dir, n)
		var err error
		if strings.HasSuffix(n, lockSuffix) {
			err = os.WriteFile(path, nil, 0o600)
		} else {
			err = errors.Join(os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "program"), []byte("x"), 0o700))
		}
		then := time.Now().Add(-time.Duration(days) * 24 * time.Hour)
		if err := errors.Join(err, os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
	}
}

// names are what is in the cache.
func (c cache) names(t *testing.T) []string {
	t.Helper()
	files, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		out = append(out, f.Name())
	}
	return out
}

func add(t *testing.T, c cache, name string) {
	t.Helper()
	dir, err := c.once(t.Context(), name, func(dir string) error { return os.WriteFile(filepath.Join(dir, "program"), nil, 0o700) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "program")); err != nil {
		t.Fatal(err)
	}
}

const hash = "0123456789ab"

func TestNewEntryRemovesTheUnusedOfItsKind(t *testing.T) {
	for name, tc := range map[string]struct{ add, gone, kept string }{
		"the lab's programs": {
			"programs-aaaaaaaaaaaa", "programs-0e05fda9824d programs-1e05fda9824d",
			"kubeproxy-state-0e05fda9824d v1.37.2-0e05fda9824d programs other-programs-0e05fda9824d",
		},
		"kube-proxy's rules": {"kubeproxy-state-aaaaaaaaaaaa", "kubeproxy-state-0e05fda9824d", "programs-0e05fda9824d state-0e05fda9824d v1.37.2-0e05fda9824d"},
		"any Kubernetes": {
			"v1.38.0-rc.1-aaaaaaaaaaaa", "v1.37.2-0e05fda9824d v1.37.2-1e05fda9824d v1.36.0-beta.0-0e05fda9824d",
			"programs-0e05fda9824d kubeproxy-state-0e05fda9824d notes vague-0e05fda9824d",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := testCache(t)
			young := kindPrefix(tc.add) + "bbbbbbbbbbbb"
			c.put(t, 13, young, young+lockSuffix)
			var want []string
			for _, n := range strings.Fields(tc.gone) {
				c.put(t, 15, n, n+lockSuffix)
			}
			for _, n := range strings.Fields(tc.kept) {
				c.put(t, 1000, n, n+lockSuffix)
				want = append(want, n, n+lockSuffix)
			}
			add(t, c, tc.add)
			want = append(want, tc.add, tc.add+lockSuffix, young, young+lockSuffix)
			slices.Sort(want)
			if got := c.names(t); !slices.Equal(got, want) {
				t.Errorf("left\n%q, want\n%q", got, want)
			}
		})
	}
}

// kindPrefix is a name without its hash.
func kindPrefix(name string) string { return name[:len(name)-12] }

func TestUseKeepsAnEntry(t *testing.T) {
	c, _ := testCache(t)
	c.put(t, 1000, "programs-"+hash, "programs-"+hash+lockSuffix)
	made := false
	if _, err := c.once(t.Context(), "programs-"+hash, func(string) error { made = true; return nil }); err != nil || made {
		t.Fatalf("made again: %v, %v", made, err)
	}
	add(t, c, "programs-aaaaaaaaaaaa")
	if !slices.Contains(c.names(t), "programs-"+hash) {
		t.Error("an entry that was used a moment ago is gone")
	}
}

func TestWhatAKilledMakerLeftIsRemovedToo(t *testing.T) {
	c, _ := testCache(t)
	c.put(t, 15, "programs-"+hash+unmadeEntry, "programs-"+hash+lockSuffix, "programs-bbbbbbbbbbbb"+lockSuffix)
	add(t, c, "programs-aaaaaaaaaaaa")
	if got := c.names(t); !slices.Equal(got, []string{"programs-aaaaaaaaaaaa", "programs-aaaaaaaaaaaa" + lockSuffix}) {
		t.Errorf("left %q", got)
	}
}

func TestEntryThatIsBeingMadeStays(t *testing.T) {
	c, _ := testCache(t)
	c.put(t, 15, "programs-"+hash+unmadeEntry, "programs-"+hash+lockSuffix)
	unlock, err := c.tryLock("programs-" + hash)
	if err != nil {
		t.Fatal(err)
	}
	add(t, c, "programs-aaaaaaaaaaaa")
	if got := c.names(t); !slices.Contains(got, "programs-"+hash+unmadeEntry) || !slices.Contains(got, "programs-"+hash+lockSuffix) {
		t.Errorf("left %q", got)
	}
	unlock()
}

func TestLockOfARemovedFileKeepsNobodyOut(t *testing.T) {
	c, _ := testCache(t)
	path := filepath.Join(c.dir, "programs-"+hash+lockSuffix)
	c.put(t, 0, filepath.Base(path))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !same(f, path) {
		t.Error("a file is not the one at its path")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if same(f, path) {
		t.Error("a file that was removed is taken for the one at its path")
	}
	c.put(t, 0, filepath.Base(path))
	if same(f, path) {
		t.Error("a file that was replaced is taken for the one at its path")
	}
}

func TestFailureLeavesNoEntry(t *testing.T) {
	c, _ := testCache(t)
	broken := errors.New("broken")
	if _, err := c.once(t.Context(), "programs-"+hash, func(dir string) error {
		return errors.Join(broken, os.WriteFile(filepath.Join(dir, "half"), nil, 0o600))
	}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if got := c.names(t); !slices.Equal(got, []string{"programs-" + hash + lockSuffix}) {
		t.Errorf("left %q", got)
	}
	add(t, c, "programs-"+hash) // the next one may
}

func TestEntryIsMadeOnceAndOthersWait(t *testing.T) {
	c, said := testCache(t)
	var made atomic.Int32
	waiting := make(chan struct{})
	other := c
	other.say = func(format string, args ...any) { *said = append(*said, fmt.Sprintf(format, args...)); close(waiting) }
	done := make(chan error, 1)
	_, err := c.once(t.Context(), "programs-"+hash, func(string) error {
		made.Add(1)
		go func() {
			_, err := other.once(t.Context(), "programs-"+hash, func(string) error { made.Add(1); return nil })
			done <- err
		}()
		select {
		case <-waiting:
			return nil
		case <-time.After(10 * time.Second):
			return errors.New("the other does not wait")
		}
	})
	if err := errors.Join(err, <-done); err != nil || made.Load() != 1 {
		t.Errorf("made %d times, %v", made.Load(), err)
	}
	if len(*said) != 1 || !strings.Contains((*said)[0], "waiting for another process that builds programs-"+hash) {
		t.Errorf("said %q", *said)
	}

	unlock, err := c.tryLock("programs-bbbbbbbbbbbb")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	c.say = func(string, ...any) { cancel() }
	if _, err := c.once(ctx, "programs-bbbbbbbbbbbb", func(string) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the end of the context", err)
	}
}
