package diagnose

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// scene is everything that the checks of a family may look at.
type scene struct {
	model *intent.Model
	nodes []*survey.Node
}
