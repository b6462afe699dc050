package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Problem is why the API did not give what was asked for, in a sentence, with a next step.
type Problem struct {
	Sentence string
	Next     string
	// Input is true when what the user asked for does not exist: the fault is in the command line.
	Input bool
	Err   error
}

// Error returns the sentence.
func (p *Problem) Error() string { return p.Sentence }

// NextStep returns what the user may do.
func (p *Problem) NextStep() string { return p.Next }

// Unwrap returns the cause, if there is one.
func (p *Problem) Unwrap() error { return p.Err }

// explain turns an error of the API into a Problem that names the verb, the resource and the namespace; nil stays nil.
func explain(err error, verb, resource, namespace string) error {
	where, flag := "", ""
	if namespace != "" {
		where, flag = " in namespace "+namespace, " -n "+namespace
	}
	var (
		urlErr *url.Error
		netErr net.Error
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &urlErr):
		return err
	case apierrors.IsForbidden(err):
		return &Problem{
			Sentence: fmt.Sprintf("no permission to %s %s%s", verb, resource, where),
			Next:     fmt.Sprintf("ask for the permission, and check it with: kubectl auth can-i %s %s%s", verb, resource, flag),
			Err:      err,
		}
	case apierrors.IsUnauthorized(err):
		return &Problem{Sentence: "the API server does not accept the credentials", Next: "log in again, or choose another context with --context", Err: err}
	case errors.As(err, &urlErr), errors.As(err, &netErr):
		return &Problem{
			Sentence: fmt.Sprintf("the API server cannot be reached: %s", strings.TrimSpace(err.Error())),
			Next:     "see whether kubectl version reaches it; choose another cluster with --context or --kubeconfig",
			Err:      err,
		}
	default:
		return &Problem{
			Sentence: fmt.Sprintf("the API server did not %s %s%s: %s", verb, resource, where, err),
			Next:     "see whether it is well: kubectl get --raw '/readyz?verbose'",
			Err:      err,
		}
	}
}

// Explain is explain for requests that are made elsewhere.
func Explain(err error, verb, resource, namespace string) error {
	return explain(err, verb, resource, namespace)
}
