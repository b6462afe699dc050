package render

import (
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

func TestCleanTakesOutWhatActsOnATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"web":                     "web",
		"a\x1b[31mred\x1b[0m":     "a[31mred[0m",
		"a\nb\tc\rd":              "a b c d",
		"bell\x07 \u009b31m":      "bell 31m",
		"\u202eevil\u2066":        "evil",
		"zero\u200bwidth":         "zerowidth",
		"naïve 端点 → ok":           "naïve 端点 → ok",
		"bad \xff utf8":           "bad  utf8",
		"line\u2028sep\u2029arat": "lineseparat",
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[2J")
	f.Fuzz(func(t *testing.T, s string) {
		fuzz.Bounded(t, func() {
			if got := Clean(s); strings.ContainsAny(got, "\x00\x07\x1b\n\r\u009b\u202e") {
				t.Errorf("%q", got)
			}
		})
	})
}

func TestColourIsOnlyOnWhenAskedFor(t *testing.T) {
	for _, on := range []bool{false, true} {
		p := &page{colour: on}
		p.line(red, "x")
		if got := strings.Contains(p.b.String(), "\x1b["); got != on {
			t.Errorf("colour %t: %q", on, p.b.String())
		}
	}
}

func TestFitKeepsTheWidth(t *testing.T) {
	if got := fit("abcdef", 4); got != "abc…" {
		t.Error(got)
	}
	if got := fit("端点端点", 4); got != "端点端点" {
		t.Error(got)
	}
}
