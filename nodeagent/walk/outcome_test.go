package walk

import (
	"math/big"
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

func ending(v trace.Verdict, dst string, a, b int64, assumed ...rule.Assumption) end {
	return end{
		verdict: v, prob: big.NewRat(a, b), assumed: assumed,
		outcome: trace.Outcome{Verdict: v, Destination: netip.MustParseAddrPort(dst), Conditions: []string{}, Path: []int{}},
	}
}

func unknown(what string, negated bool) rule.Assumption {
	return rule.Assumption{Unknown: &trace.Unknown{What: what}, Negation: negated}
}

func when(what string, negated bool) rule.Assumption {
	return rule.Assumption{Condition: what, Negation: negated}
}

func finished(ends ...end) []trace.Outcome {
	w := &journey{trace: trace.New(trace.Packet{}), ends: ends}
	w.finish()
	return w.trace.Outcomes
}

func TestEqualEndsAddTheirProbabilities(t *testing.T) {
	got := finished(ending(trace.Forwarded, "10.0.0.1:80", 1, 3), ending(trace.Forwarded, "10.0.0.2:80", 1, 3), ending(trace.Forwarded, "10.0.0.1:80", 1, 3))
	if len(got) != 2 || got[0].Probability.String() != "2/3" || got[1].Probability.String() != "1/3" {
		t.Errorf("got %+v, want 2/3 and 1/3", got)
	}
}

func TestWhatDoesNotDependOnAnUnknownIsDetermined(t *testing.T) {
	got := finished(
		ending(trace.Forwarded, "10.0.0.1:80", 1, 1, unknown("xt_foo", false), when("rate", false)),
		ending(trace.Forwarded, "10.0.0.1:80", 1, 1, unknown("xt_foo", true), when("rate", false)),
		ending(trace.Forwarded, "10.0.0.1:80", 1, 1, when("rate", true)),
	)
	if len(got) != 1 || got[0].Verdict != trace.Forwarded || got[0].Probability == nil || got[0].Probability.String() != "1" {
		t.Errorf("got %+v, want one certain outcome", got)
	}
}

func TestWhatDependsOnAnUnknownIsUndeterminedAndNamesIt(t *testing.T) {
	got := finished(ending(trace.Dropped, "10.0.0.1:80", 1, 1, unknown("xt_foo", false)), ending(trace.Forwarded, "10.0.0.1:80", 1, 1, unknown("xt_foo", true)))
	if len(got) != 2 {
		t.Fatalf("got %+v, want two outcomes", got)
	}
	for i, possible := range []trace.Verdict{trace.Dropped, trace.Forwarded} {
		o := got[i]
		if o.Verdict != trace.Undetermined || o.Possible != possible || o.Probability != nil || len(o.Unknown) != 1 || o.Unknown[0].What != "xt_foo" {
			t.Errorf("outcome %d: %+v", i, o)
		}
	}
}

func TestAConditionTakesTheProbabilityAway(t *testing.T) {
	got := finished(ending(trace.Dropped, "10.0.0.1:80", 1, 1, when("rate", false)), ending(trace.Forwarded, "10.0.0.1:80", 1, 1, when("rate", true)))
	if len(got) != 2 || got[0].Probability != nil || len(got[0].Conditions) != 1 || got[0].Verdict != trace.Dropped || got[1].Conditions[0] != "not: rate" {
		t.Errorf("got %+v", got)
	}
}

func TestDifferentShapesDoNotJoin(t *testing.T) {
	// With rate: half to each. Without: all to the first. The second endpoint depends on the condition.
	got := finished(
		ending(trace.Forwarded, "10.0.0.1:80", 1, 2, when("rate", false)),
		ending(trace.Forwarded, "10.0.0.2:80", 1, 2, when("rate", false)),
		ending(trace.Forwarded, "10.0.0.1:80", 1, 1, when("rate", true)),
	)
	for _, o := range got {
		if o.Probability != nil {
			t.Errorf("%s has probability %s, though a condition decides", o.Destination, o.Probability)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d outcomes, want 3", len(got))
	}
}

func TestHopsOfNoOutcomeAreDropped(t *testing.T) {
	w := &journey{trace: trace.New(trace.Packet{})}
	w.trace.Hops = []trace.Hop{{Action: "a"}, {Action: "b"}, {Action: "c"}}
	e := ending(trace.Local, "10.0.0.1:80", 1, 1)
	e.outcome.Path = []int{0, 2}
	w.ends = []end{e}
	w.finish()
	if len(w.trace.Hops) != 2 || w.trace.Hops[1].Action != "c" || w.trace.Outcomes[0].Path[1] != 1 {
		t.Errorf("hops %+v, path %v", w.trace.Hops, w.trace.Outcomes[0].Path)
	}
}

func TestManyIndependentConditionsJoinToNone(t *testing.T) {
	const conditions = 12
	var ends []end
	for bits := range 1 << conditions {
		var assumed []rule.Assumption
		for i := range conditions {
			assumed = append(assumed, when(string(rune('a'+i)), bits>>i&1 != 0))
		}
		ends = append(ends, ending(trace.Forwarded, "10.0.0.1:80", 1, 1, assumed...))
	}
	if got := finished(ends...); len(got) != 1 || len(got[0].Conditions) != 0 {
		t.Errorf("%d outcomes, the first under %v", len(got), got[0].Conditions)
	}
}
