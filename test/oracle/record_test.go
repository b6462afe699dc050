//go:build linux

package oracle

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// recordRuns is how often a case runs to see all its fates.
const recordRuns = 24

// record writes the fates that the kernel gives into a case's file.
func record(t *testing.T, l *Lab, file, text string, c *Case) {
	t.Helper()
	for i := range c.Shots {
		c.Shots[i].Want = nil
	}
	fates := make([]map[Fate]bool, len(c.Shots))
	for range recordRuns {
		obs, err := l.Run(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range obs {
			if o.Stage != opening {
				continue
			}
			if fates[o.Shot] == nil {
				fates[o.Shot] = map[Fate]bool{}
			}
			fates[o.Shot][o.Fate] = true
		}
	}
	lines, shot := strings.Split(text, "\n"), 0
	for i, l := range lines {
		if strings.HasPrefix(l, "-- ") {
			break
		}
		if strings.HasPrefix(l, "packet ") {
			s := c.Shots[shot]
			s.Want = fateTexts(fates[shot])
			lines[i] = s.String()
			shot++
		}
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fateTexts writes fates; where several differ in the source port alone, the kernel chose it, and 0 stands for it.
func fateTexts(fates map[Fate]bool) []string {
	ports := map[Fate]int{}
	free := func(f Fate) Fate {
		f.Src = netip.AddrPortFrom(f.Src.Addr(), 0)
		return f
	}
	for f := range fates {
		if f.Src.IsValid() {
			ports[free(f)]++
		}
	}
	var out []string
	for f := range fates {
		if f.Src.IsValid() && ports[free(f)] > 1 {
			f = free(f)
		}
		out = append(out, f.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}
