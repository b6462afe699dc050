package proofs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/proofs"
)

func record(finding, test string) proofs.Record {
	return proofs.Record{Finding: finding, Test: test, Where: "API", Caused: "by hand", Seen: "connections fail"}
}

func TestARunReplacesItsOwnRecordsAndKeepsTheOthers(t *testing.T) {
	root := t.TempDir()
	if got, err := proofs.Read(root, "faults"); err != nil || got != nil {
		t.Fatal(got, err)
	}
	write := func(suite string, records ...proofs.Record) {
		t.Helper()
		if err := proofs.Write(root, suite, records); err != nil {
			t.Fatal(err)
		}
	}
	write("faults", record("foreign-drop", "b"), record("foreign-drop", "a"))
	write("e2e", record("foreign-drop", "c"))
	changed := record("foreign-reject", "a")
	write("faults", changed)
	all, err := proofs.All(root)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]proofs.Record{"foreign-drop": {record("foreign-drop", "c"), record("foreign-drop", "b")}, "foreign-reject": {changed}}
	if d := cmp.Diff(want, all); d != "" {
		t.Error(d)
	}
	missing, err := proofs.Missing(root, "faults", []proofs.Record{changed, record("foreign-drop", "a")})
	if err != nil || len(missing) != 1 || missing[0].Finding != "foreign-drop" {
		t.Errorf("missing: %v, %v", missing, err)
	}
}

func TestTableCountsWhatIsProvenAndNamesTheRest(t *testing.T) {
	families := []diagnose.Family{{Name: "Firewalls", Kinds: []diagnose.Kind{diagnose.ForeignDrop, diagnose.ForeignReject}}}
	under := record("foreign-drop", "x")
	under.Under, under.Alarms = "mark-collision", []string{"undetermined"}
	got := proofs.Table(families, map[string][]proofs.Record{"foreign-drop": {record("foreign-drop", "y"), under}})
	for _, want := range []string{
		"Of 2 findings, 1 were caused for real; false alarms: 1.",
		"| [foreign-drop](findings/foreign-drop.md) | by hand | API | connections fail | at the top | none |",
		"| under mark-collision | undetermined |",
		"| [foreign-reject](findings/foreign-reject.md) | no test |",
		"- `foreign-reject`",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestEveryFindingWasCausedForReal(t *testing.T) {
	records, err := proofs.All("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range diagnose.Families() {
		for _, k := range f.Kinds {
			if len(records[k.ID]) == 0 {
				t.Errorf("no test has recorded %s", k.ID)
			}
		}
	}
}
