package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: what could not be told.
var (
	Undetermined = Kind{
		ID: "undetermined", Severity: Warning, Title: "could not tell",
		Means:  "The packet meets a rule, an extension or a program that svctrace does not understand, and what happens depends on it.",
		Proven: "The walk forks at something that is not modelled, and the branches end differently.",
		Fix:    "the evidence names what is not modelled, and where it stands",
	}
	WalkFailed = Kind{
		ID: "walk-failed", Severity: Warning, Title: "could not tell",
		Means:  "The agent on the node could not read the state that the walk needs.",
		Proven: "The agent's own error.",
		Fix:    "the agent could not read the state; --profile privileged gives it every capability",
	}
)

func unknownFamily() Family {
	return Family{Name: "What could not be told", Kinds: []Kind{Undetermined, WalkFailed}}
}

// undetermined reports branches that the engine could not evaluate.
func undetermined(w *survey.Walk, v view) []draft {
	var out []draft
	for _, i := range v.unknown {
		o := &w.Trace.Outcomes[i]
		d := draft{kind: Undetermined, on: endNode(w, o), evidence: lastRule(w.Trace, o)}
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

// endNode is the node that an outcome ends on; "" where the trace does not say.
func endNode(w *survey.Walk, o *trace.Outcome) string {
	if h := lastOf(w.Trace, o); h != nil {
		return h.Node
	}
	return ""
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
