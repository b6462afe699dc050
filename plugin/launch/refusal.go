package launch

import (
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// rbacMessage is how the API server words a lack of permission: the verb and the resource.
var rbacMessage = regexp.MustCompile(`cannot ([a-z]+) resource "([^"]+)" in API group "[^"]*"`)

// createFailure explains why a pod was not accepted.
func createFailure(o Options, node string, err error) *Failure {
	msg := err.Error()
	switch {
	case apierrors.IsForbidden(err) && rbacMessage.MatchString(msg):
		return forbidden("create", "pods", o.Namespace, node, err)
	case apierrors.IsForbidden(err) && strings.Contains(msg, "violates PodSecurity"):
		return failuref(node,
			fmt.Sprintf("use a namespace that allows it: --agent-namespace NAME with the label pod-security.kubernetes.io/enforce=privileged "+
				"(kubectl label namespace %s pod-security.kubernetes.io/enforce=privileged sets it here)", o.Namespace), err,
			"namespace %s does not admit the agent pod, which needs the node's network: %s", o.Namespace, afterForbidden(msg))
	case apierrors.IsForbidden(err) && strings.Contains(msg, "exceeded quota"):
		return failuref(node, "use a namespace with room: --agent-namespace NAME", err,
			"the quota of namespace %s has no room for the agent pod: %s", o.Namespace, afterForbidden(msg))
	case apierrors.IsForbidden(err) && strings.Contains(msg, "serviceaccount"):
		return failuref(node, "wait until the namespace's default service account exists, or use --agent-namespace NAME", err,
			"namespace %s has no default service account yet: %s", o.Namespace, afterForbidden(msg))
	case apierrors.IsForbidden(err) || strings.Contains(msg, "denied the request"):
		return failuref(node, "ask for an exception for pods named "+NamePrefix+"* with the labels "+Selector+", or use --agent-namespace NAME", err,
			"admission refused the agent pod in namespace %s: %s", o.Namespace, afterForbidden(msg))
	case apierrors.IsNotFound(err):
		return failuref(node, "name one that exists: --agent-namespace NAME", err, "namespace %s for the agent pods does not exist", o.Namespace)
	case apierrors.IsInvalid(err):
		return failuref(node, "--image and --agent-namespace must be well formed", err, "the API server does not accept the agent pod: %s", msg)
	default:
		return failuref(node, "", err, "creating the agent pod for node %s in namespace %s failed: %s", node, o.Namespace, msg)
	}
}

// attachFailure explains why the conversation could not begin.
func attachFailure(o Options, node string, err error) *Failure {
	if m := err.Error(); apierrors.IsForbidden(err) || strings.Contains(m, "forbidden") && strings.Contains(m, "attach") {
		return forbidden("create", "pods/attach", o.Namespace, node, err)
	}
	return failuref(node, "see whether kubectl attach works in this cluster; the API server must reach the node's kubelet", err,
		"attaching to the agent on node %s failed: %s", node, err)
}

// watchFailure explains why pods could not be watched.
func watchFailure(o Options, node string, err error) *Failure {
	if apierrors.IsForbidden(err) {
		return forbidden("watch", "pods", o.Namespace, node, err)
	}
	return failuref(node, "", err, "watching the agent pods in namespace %s failed: %s", o.Namespace, err)
}

func forbidden(verb, resource, namespace, node string, err error) *Failure {
	return failuref(node,
		fmt.Sprintf("ask for the permission, and check it with: kubectl auth can-i %s %s -n %s; or run the agent elsewhere with --agent-namespace NAME", verb, resource, namespace), err,
		"no permission to %s %s in namespace %s", verb, resource, namespace)
}

// afterForbidden cuts the API server's preamble: pods "x" is forbidden: …
func afterForbidden(msg string) string {
	if _, rest, ok := strings.Cut(msg, " is forbidden: "); ok {
		return rest
	}
	return msg
}
