//go:build linux

package oracle

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCasesSurviveTheirText(t *testing.T) {
	for _, g := range generators {
		c := g.make(1, 2)
		got, err := ParseCase("x", c.Format())
		if err != nil {
			t.Fatalf("%s: %v", g.name, err)
		}
		if diff := cmp.Diff(string(c.Format()), string((&Case{
			Name: c.Name, Steps: got.Steps, Shots: got.Shots, AnswersMayDie: got.AnswersMayDie, Decided: got.Decided,
		}).Format())); diff != "" {
			t.Errorf("%s: %s", g.name, diff)
		}
	}
}

func TestGeneratorsRepeatThemselves(t *testing.T) {
	for _, g := range generators {
		if diff := cmp.Diff(string(g.make(7, 3).Format()), string(g.make(7, 3).Format())); diff != "" {
			t.Errorf("%s makes another case of the same seed: %s", g.name, diff)
		}
	}
}
