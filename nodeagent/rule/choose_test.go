package rule

import (
	"errors"
	"math/big"
	"testing"
)

func TestEnumerateVisitsEveryCombinationOnce(t *testing.T) {
	got, err := Enumerate(100, func(c *Chooser) ([2]int, error) {
		return [2]int{c.Uniform(3), c.Uniform(2)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seen, sum := map[[2]int]bool{}, new(big.Rat)
	for _, b := range got {
		if seen[b.Value] {
			t.Errorf("combination %v twice", b.Value)
		}
		seen[b.Value] = true
		if b.P.Cmp(big.NewRat(1, 6)) != 0 {
			t.Errorf("combination %v has probability %s, want 1/6", b.Value, b.P)
		}
		sum.Add(sum, b.P)
	}
	if len(got) != 6 || sum.Cmp(big.NewRat(1, 1)) != 0 {
		t.Errorf("%d branches with sum %s, want 6 with sum 1", len(got), sum)
	}
}

func TestEnumerateFollowsChoicesThatDependOnEarlierOnes(t *testing.T) {
	got, err := Enumerate(100, func(c *Chooser) (string, error) {
		if c.Chance(big.NewRat(1, 3)) {
			return "first", nil
		}
		if c.Chance(big.NewRat(1, 2)) {
			return "second", nil
		}
		return "third", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	third := big.NewRat(1, 3)
	for i, want := range []string{"first", "second", "third"} {
		if i >= len(got) || got[i].Value != want || got[i].P.Cmp(third) != 0 {
			t.Fatalf("branches %v, want first, second and third with 1/3 each", got)
		}
	}
}

func TestCertainChancesDoNotFork(t *testing.T) {
	got, err := Enumerate(10, func(c *Chooser) (bool, error) {
		return c.Chance(big.NewRat(0, 1)) || c.Chance(big.NewRat(2, 1)), nil
	})
	if err != nil || len(got) != 1 || !got[0].Value {
		t.Errorf("got %v, %v, want one true branch", got, err)
	}
}

func TestAssumptionsAreKeptOnBothSides(t *testing.T) {
	got, err := Enumerate(10, func(c *Chooser) (bool, error) { return c.Unknown("xt_foo", "rule 1"), nil })
	if err != nil || len(got) != 2 {
		t.Fatalf("got %v, %v, want two branches", got, err)
	}
	for i, want := range []string{"xt_foo in rule 1 matches", "not: xt_foo in rule 1 matches"} {
		if len(got[i].Assumptions) != 1 || got[i].Assumptions[0].String() != want {
			t.Errorf("branch %d assumes %v, want %q", i, got[i].Assumptions, want)
		}
	}
}

func TestEnumerateStopsAtItsLimit(t *testing.T) {
	_, err := Enumerate(4, func(c *Chooser) (int, error) { return c.Uniform(5), nil })
	if !errors.Is(err, ErrTooManyBranches) {
		t.Errorf("got %v, want ErrTooManyBranches", err)
	}
}
