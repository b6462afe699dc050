package launch

import "fmt"

// Failure says why an agent could not be had on a node, in a sentence, with a next step.
type Failure struct {
	Node     string
	Sentence string
	// Next is what the user may do; empty if nothing better than the sentence is known.
	Next string
	Err  error
}

// Error returns the sentence.
func (f *Failure) Error() string { return f.Sentence }

// NextStep returns what the user may do.
func (f *Failure) NextStep() string { return f.Next }

// Unwrap returns the cause, if there is one.
func (f *Failure) Unwrap() error { return f.Err }

func failuref(node, next string, err error, format string, args ...any) *Failure {
	return &Failure{Node: node, Sentence: fmt.Sprintf(format, args...), Next: next, Err: err}
}
