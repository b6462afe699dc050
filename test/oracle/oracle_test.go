//go:build linux

package oracle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fixedSeed is the seed of the runs that are the same everywhere.
const fixedSeed = 20260101

// decisive is how often every modelled construct must decide a packet's fate in a run.
const decisive = 50

// The environment: ORACLE_PACKETS is how many packets each generator sends at least for each seed, ORACLE_SEED a seed to
// repeat, ORACLE_VERBOSE shows coverage and what did not load, ORACLE_FAILFAST ends at the first problem, and
// ORACLE_RECORD writes the kernel's fates into the recorded cases. ORACLE_CASE is a case's file to run alone and explain.
func packetsWanted(t *testing.T) int {
	s := os.Getenv("ORACLE_PACKETS")
	if s == "" {
		return 1600
	}
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		t.Fatalf("ORACLE_PACKETS=%q is not a number of packets", s)
	}
	return n
}

// seeds are the fixed seed and a fresh one, or the one that is asked for.
func seeds(t *testing.T) []uint64 {
	if s := os.Getenv("ORACLE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("ORACLE_SEED=%q is not a number", s)
		}
		return []uint64{n}
	}
	return []uint64{fixedSeed, rand.Uint64N(1 << 48)}
}

// generator makes the cases of one kind.
type generator struct {
	name string
	make func(seed, n uint64) *Case
	// decided is the share of packets, in percent, that the engine must decide without an unknown.
	decided int
	// times is how many times the number of packets it sends.
	times int
}

var generators = []generator{
	{"kube-proxy", sometimesLong(kubeCase), 100, 1},
	{"iptables", sometimesLong(generalIPTablesCase), 80, 1},
	{"nftables", sometimesLong(generalNFTCase), 80, 1},
	{"mixed", sometimesLong(mixedCase), 80, 1},
	{"focus-iptables", sometimesLong(focusCase), 80, 2},
	{"focus-nftables", sometimesLong(nftFocusCase), 80, 2},
	{"bridge", sometimesLong(bridgeCase), 70, 1},
}

// tally is what a run of cases gave.
type tally struct {
	cases, packets, decided, problems, dropped int
	fates                                      map[Kind]int
	chances                                    Chances
	coverage                                   Coverage
}

func newTally() *tally { return &tally{fates: map[Kind]int{}, coverage: Coverage{}} }

func newLab(t *testing.T) *Lab {
	t.Helper()
	l, err := NewLab(filepath.Join(t.TempDir(), "xtables.lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// run runs a case, counts, and reports the first problem with a shrunken case.
func (y *tally) run(t *testing.T, l *Lab, c *Case) {
	t.Helper()
	y.cases++
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	obs, err := l.Run(ctx, c)
	var refused *loadError
	if errors.As(err, &refused) {
		var dropped []string
		if c, dropped, err = l.Repair(c); err == nil {
			y.dropped += len(dropped)
			if os.Getenv("ORACLE_VERBOSE") != "" {
				t.Log(strings.Join(dropped, "\n"))
			}
			obs, err = l.Run(ctx, c)
		}
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", c.Name, err, c.Format())
	}
	reported := false
	for _, o := range obs {
		y.packets++
		y.fates[o.Fate.Kind]++
		j := judge(c, o)
		if j.Decided {
			y.decided++
		}
		y.chances.Add(c, o, j)
		y.coverage.Add(c, o, j)
		if os.Getenv("ORACLE_CASE") != "" {
			t.Log(explain(c, o, j))
		}
		if j.Problem == "" {
			continue
		}
		y.problems++
		if reported {
			continue
		}
		reported = true
		t.Errorf("%s: %s", c.Name, explain(c, o, j))
		if os.Getenv("ORACLE_FAILFAST") != "" {
			t.FailNow()
		}
		if y.problems <= 5 {
			small := Shrink(c, 15*time.Second, l.failsLike(context.Background(), o))
			t.Logf("a smaller case:\n%s", small.Format())
		}
	}
}

func (y *tally) String() string {
	tries, experiments := y.chances.Tries()
	return fmt.Sprintf("%d packets, %d decided, %d problems, fates %v, %d tries of %d chances, %d lines not loadable",
		y.packets, y.decided, y.problems, y.fates, tries, experiments, y.dropped)
}

// TestKernelAgreesOnRecordedCases runs the files of testdata/regress: the kernel must give the recorded fates, and the
// engine must say so.
func TestKernelAgreesOnRecordedCases(t *testing.T) {
	files, err := filepath.Glob("testdata/regress/*.case")
	if f := os.Getenv("ORACLE_CASE"); f != "" {
		files = []string{f}
	}
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded cases: %v", err)
	}
	l := newLab(t)
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".case"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ParseCase(f, text)
			if err != nil {
				t.Fatal(err)
			}
			if os.Getenv("ORACLE_RECORD") != "" {
				record(t, l, f, string(text), c)
				return
			}
			for _, l.derived = range []bool{true, false} {
				y := newTally()
				for range max(c.Tries, 1) {
					y.run(t, l, c)
				}
				// With the kernel's own lists the order is never open.
				if strings.HasPrefix(filepath.Base(f), "last-registered") && !l.derived && y.decided != y.packets {
					t.Errorf("the engine decides %d of %d packets", y.decided, y.packets)
				}
				for _, p := range y.chances.Problems() {
					t.Error(p)
				}
			}
		})
	}
}

// TestKernelAgreesOnRandomCases sends packets through random rules of every generator, and then goes on with cases for
// those constructs that have not been decisive often enough.
func TestKernelAgreesOnRandomCases(t *testing.T) {
	want := packetsWanted(t)
	count := decisive * max(want/1600, 1)
	all, ran, packets, cases := Coverage{}, 0, 0, 0
	short := func(c string) bool { return all[c] < count }
	lab := func(t *testing.T) *Lab {
		l := newLab(t)
		if os.Getenv("ORACLE_FAILFAST") == "" {
			l.Short = short
		}
		return l
	}
	begin := time.Now()
	for _, seed := range seeds(t) {
		for _, g := range generators {
			t.Run(fmt.Sprintf("%s/%d", g.name, seed), func(t *testing.T) {
				l, y, begin := lab(t), newTally(), time.Now()
				y.coverage = all
				for n := uint64(0); y.packets < want*g.times && y.problems < 20; n++ {
					l.derived = n%3 == 2 // what the engine does where the kernel does not list its hooks
					y.run(t, l, g.make(seed, n))
				}
				for _, p := range y.chances.Problems() {
					t.Error(p)
				}
				if y.decided*100 < y.packets*g.decided {
					t.Errorf("the engine decides %d of %d packets, less than %d%%", y.decided, y.packets, g.decided)
				}
				ran++
				packets += y.packets
				cases += y.cases
				t.Logf("seed %d: %s in %v", seed, y, time.Since(begin).Round(time.Millisecond))
			})
		}
		t.Run(fmt.Sprintf("short/%d", seed), func(t *testing.T) {
			if os.Getenv("ORACLE_FAILFAST") != "" || t.Failed() || ran%len(generators) != 0 {
				t.Skip("a part of the run covers a part")
			}
			l, y, begin := lab(t), newTally(), time.Now()
			y.coverage = all
			goOn(t, l, y, seed, count)
			ran++
			packets += y.packets
			cases += y.cases
			t.Logf("seed %d: %s in %v", seed, y, time.Since(begin).Round(time.Millisecond))
		})
	}
	if len(all) > 0 && ran >= len(generators)+1 {
		for _, c := range all.Below(count) {
			t.Errorf("%s was decisive %d times, not %d", c, all[c], count)
		}
	}
	t.Logf("%d packets through %d rule sets in %v", packets, cases, time.Since(begin).Round(time.Second))
	if os.Getenv("ORACLE_SEED") == "" && ran == 2*len(generators)+2 && (packets < 20000 || cases < 2000) {
		t.Errorf("%d packets through %d rule sets are less than 20000 through 2000", packets, cases)
	}
	if os.Getenv("ORACLE_VERBOSE") != "" {
		for _, c := range all.Names() {
			t.Logf("%6d %s", all[c], c)
		}
	}
}

// goOn runs cases for the constructs that are short of a count, in turn, until none is or enough was tried.
func goOn(t *testing.T, l *Lab, y *tally, seed uint64, count int) {
	t.Helper()
	tries := map[string]int{}
	for n := uint64(0); y.problems < 20; n++ {
		short := slices.DeleteFunc(y.coverage.Below(count), func(c string) bool { return tries[c] >= 3*count })
		if len(short) == 0 {
			return
		}
		for i, construct := range short {
			c := caseFor(seed, n<<16|uint64(i), construct)
			if tries[construct]++; c == nil {
				t.Errorf("no generator makes %s", construct)
				tries[construct] = 1 << 30
				continue
			}
			y.run(t, l, c)
		}
	}
}

// TestWhatIsCalledUnloadableIs loads what is listed as not loadable here: it must fail, else it must be covered.
func TestWhatIsCalledUnloadableIs(t *testing.T) {
	l := newLab(t)
	for name, step := range notLoadable {
		_, err := l.Run(context.Background(), &Case{Name: name, Steps: []Step{step}})
		var refused *loadError
		if !errors.As(err, &refused) {
			t.Errorf("%s: loading it gives %v: it can be covered", name, err)
		}
	}
}
