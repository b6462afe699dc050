// Package proofs keeps what the fault tests themselves record: which fault was caused, what real connections did, and what
// was found. docs/faults.md is made from it.
package proofs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Record is one fault that a test caused.
type Record struct {
	// Finding is the ID that the test requires.
	Finding string `json:"finding"`
	// Under is the finding that it is folded under; empty when it is at the top.
	Under string `json:"under,omitempty"`
	// Test is the name of the test, Where the node's proxy mode, or API.
	Test  string `json:"test"`
	Where string `json:"where"`
	// Caused says how, and Seen what real connections did, or what risk was seen.
	Caused string `json:"caused"`
	Seen   string `json:"seen"`
	// Alarms are warnings and errors beside it that the fault does not account for; the tests allow none.
	Alarms []string `json:"alarms,omitempty"`
}

// file is where a suite's records are, from the root of the repository.
func file(root, suite string) string {
	return filepath.Join(root, "docs", "findings", "proofs", suite+".json")
}

// Read reads the records of a suite; none when there is no file.
func Read(root, suite string) ([]Record, error) {
	b, err := os.ReadFile(file(root, suite))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the records of %s: %w", suite, err)
	}
	var out []Record
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("reading the records of %s: %w", suite, err)
	}
	return out, nil
}

// All reads the records of every suite, by finding.
func All(root string) (map[string][]Record, error) {
	files, err := filepath.Glob(file(root, "*"))
	if err != nil {
		return nil, err
	}
	out := map[string][]Record{}
	for _, f := range files {
		name := filepath.Base(f)
		records, err := Read(root, name[:len(name)-len(".json")])
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			out[r.Finding] = append(out[r.Finding], r)
		}
	}
	return out, nil
}

// Write replaces the records of a suite that have the same tests, and keeps the others: a part of a suite may run alone.
func Write(root, suite string, records []Record) error {
	old, err := Read(root, suite)
	if err != nil {
		return err
	}
	old = slices.DeleteFunc(old, func(o Record) bool {
		return slices.ContainsFunc(records, func(r Record) bool { return r.Test == o.Test })
	})
	all := append(old, records...)
	slices.SortFunc(all, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Finding, b.Finding), cmp.Compare(a.Under, b.Under), cmp.Compare(a.Test, b.Test))
	})
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file(root, suite)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file(root, suite), append(b, '\n'), 0o644)
}

// Missing lists the records of a run that are not written as they are.
func Missing(root, suite string, records []Record) ([]Record, error) {
	have, err := Read(root, suite)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(records), func(r Record) bool {
		return slices.ContainsFunc(have, func(h Record) bool { return equal(h, r) })
	}), nil
}

func equal(a, b Record) bool {
	return slices.Equal(a.Alarms, b.Alarms) && a.Finding == b.Finding && a.Under == b.Under && a.Test == b.Test && a.Where == b.Where && a.Caused == b.Caused && a.Seen == b.Seen
}
