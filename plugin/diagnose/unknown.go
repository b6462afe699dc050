package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// undetermined reports branches that the engine could not evaluate.
func undetermined(w *survey.Walk, v view) []draft {
	var out []draft
	for _, i := range v.unknown {
		o := &w.Trace.Outcomes[i]
		d := draft{kind: Undetermined, evidence: lastRule(w.Trace, o)}
		for _, u := range o.Unknown {
			d.subject = u.What
			d.sentence = fmt.Sprintf("%s is not understood%s, so what happens there could not be told", u.What, at(u.Where))
			break
		}
		if d.sentence == "" {
			d.sentence = "a branch of the walk could not be evaluated" + because(o.Reason)
		}
		out = append(out, d)
	}
	return out
}

// walkFailed reports that the agent could not walk.
func walkFailed(w *survey.Walk) draft {
	d := draft{kind: WalkFailed, sentence: "the agent could not walk the packet"}
	if w.Error != nil {
		d.subject = w.Error.Code
		d.sentence += ": " + w.Error.Message
	}
	return d
}

func at(where string) string {
	if where == "" {
		return ""
	}
	return " at " + where
}
