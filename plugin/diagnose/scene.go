package diagnose

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/apistate"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// scene is everything that the checks of a family may look at.
type scene struct {
	model *intent.Model
	nodes []*survey.Node
	// api is never nil, and empty when nothing around the Service was read.
	api *apistate.State
}

// check runs the checks of every family.
func (s *scene) check(l *ledger) {
	for _, f := range Families() {
		if f.check != nil {
			f.check(s, l)
		}
	}
}
