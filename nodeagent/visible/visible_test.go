package visible_test

import (
	"encoding/json"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/visible"
)

// evil sets a terminal's title, clears its screen, uses eight-bit control characters, turns the direction of writing, hides
// a tag character, and is no UTF-8 at its end.
const evil = "a\x1b]0;t\x07\u009b2J\u202eb\x7f\U000e0041c\u2028d\xff"

func TestTextKeepsWhatCanBeSeen(t *testing.T) {
	for in, want := range map[string]string{evil: "a]0;t2Jbcd", "lines\r\n\tand é, 日本": "lines   and é, 日本", "": ""} {
		if got := visible.Text(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestJSONLosesNothing(t *testing.T) {
	in := map[string]string{evil[:len(evil)-1]: evil[:len(evil)-1]}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	got := visible.JSON(b)
	if s := string(got); visible.Text(s) != s {
		t.Errorf("%q has something that cannot be seen", s)
	}
	var out map[string]string
	if err := json.Unmarshal(got, &out); err != nil || out[evil[:len(evil)-1]] != evil[:len(evil)-1] {
		t.Errorf("%q, %v", out, err)
	}
}
