package proofs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
)

// Table is docs/faults.md: every finding, how a test caused it, and what came of it, in Markdown.
func Table(families []diagnose.Family, records map[string][]Record) string {
	var b strings.Builder
	kinds, proven, alarms := 0, 0, 0
	var without []string
	for _, f := range families {
		for _, k := range f.Kinds {
			kinds++
			if len(records[k.ID]) > 0 {
				proven++
			} else {
				without = append(without, k.ID)
			}
			for _, r := range records[k.ID] {
				alarms += len(r.Alarms)
			}
		}
	}
	fmt.Fprintf(&b, "# Faults that were caused for real\n\nMade from the records of the tests themselves (`go test ./plugin/render -update`, from `docs/findings/proofs`): "+
		"`test/faults` causes faults in a real cluster of three nodes, one in each of kube-proxy's modes; `test/e2e` does so through the plugin itself. Each test sees what real connections "+
		"do, requires the finding with its evidence and no other warning or error, repairs the fault, and requires that nothing is found any more. Where no connection fails at once, what was seen is the risk itself.\n\n"+
		"Of %d findings, %d were caused for real; false alarms: %d.\n", kinds, proven, alarms)
	for _, f := range families {
		fmt.Fprintf(&b, "\n## %s\n\n| finding | caused by | on | what was seen | found | false alarms |\n| --- | --- | --- | --- | --- | --- |\n", f.Name)
		for _, k := range f.Kinds {
			if len(records[k.ID]) == 0 {
				fmt.Fprintf(&b, "| [%s](findings/%[1]s.md) | no test | | | | |\n", k.ID)
			}
			for _, r := range records[k.ID] {
				found := "at the top"
				if r.Under != "" {
					found = "under " + r.Under
				}
				beside := "none"
				if len(r.Alarms) > 0 {
					beside = strings.Join(r.Alarms, ", ")
				}
				fmt.Fprintf(&b, "| [%s](findings/%[1]s.md) | %s | %s | %s | %s | %s |\n", k.ID, r.Caused, r.Where, r.Seen, found, beside)
			}
		}
	}
	if len(without) > 0 {
		b.WriteString("\n## Without a record\n\n")
		for _, id := range slices.Compact(without) {
			fmt.Fprintf(&b, "- `%s`\n", id)
		}
	}
	return b.String()
}
