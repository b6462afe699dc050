package launch

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// running reports whether the agent's container runs, or why it never will.
func running(p *corev1.Pod, o Options) (bool, *Failure) {
	node := p.Spec.NodeName
	var cs *corev1.ContainerStatus
	for i := range p.Status.ContainerStatuses {
		if p.Status.ContainerStatuses[i].Name == ContainerName {
			cs = &p.Status.ContainerStatuses[i]
		}
	}
	if cs != nil && cs.State.Running != nil {
		return true, nil
	}
	if cs != nil && cs.State.Waiting != nil {
		if f := waitingFailure(node, cs.State.Waiting, o); f != nil {
			return false, f
		}
	}
	if cs != nil && cs.State.Terminated != nil {
		t := cs.State.Terminated
		return false, failuref(node, "run the same image by hand to see more, or name another with --image", nil,
			"the agent on node %s ended at once (%s, exit code %d)%s", node, t.Reason, t.ExitCode, colon(t.Message))
	}
	switch p.Status.Phase {
	case corev1.PodFailed:
		return false, failuref(node, "see the node's allocatable resources and conditions: kubectl describe node "+node, nil,
			"the kubelet of node %s refused the agent pod (%s)%s", node, orUnknown(p.Status.Reason), colon(p.Status.Message))
	case corev1.PodSucceeded:
		return false, failuref(node, "", nil, "the agent on node %s ended before it was asked anything", node)
	}
	return false, nil
}

// waitingFailure knows the reasons for waiting that do not pass while a user waits.
func waitingFailure(node string, w *corev1.ContainerStateWaiting, o Options) *Failure {
	next := "name an image that the node can pull with --image (or SVCTRACE_IMAGE), add --image-pull-secret NAME for a private registry, " +
		"or load the image onto the nodes and use --image-pull-policy Never"
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed":
		return failuref(node, next, nil, "node %s cannot pull the agent's image %s%s", node, o.Image, colon(w.Message))
	case "InvalidImageName":
		return failuref(node, next, nil, "the agent's image %q is no valid image name%s", o.Image, colon(w.Message))
	case "ErrImageNeverPull":
		return failuref(node, "load the image onto the node, or use --image-pull-policy IfNotPresent", nil,
			"node %s does not have the agent's image %s, and the pull policy is Never", node, o.Image)
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff":
		return failuref(node, "see whether --profile privileged is accepted by the node's runtime", nil,
			"the container runtime of node %s cannot start the agent (%s)%s", node, w.Reason, colon(w.Message))
	}
	return nil
}

// progress says in a few words what a pod that does not run yet waits for.
func progress(p *corev1.Pod) string {
	if p == nil {
		return "the pod was not seen"
	}
	for _, cs := range p.Status.ContainerStatuses {
		if cs.State.Waiting != nil {
			return fmt.Sprintf("its container waits: %s%s", cs.State.Waiting.Reason, colon(cs.State.Waiting.Message))
		}
	}
	if len(p.Status.ContainerStatuses) == 0 {
		return "the kubelet has not taken the pod up"
	}
	return "the pod is " + string(p.Status.Phase)
}

func colon(msg string) string {
	if msg == "" {
		return ""
	}
	return ": " + msg
}

func orUnknown(s string) string {
	if s == "" {
		return "no reason given"
	}
	return s
}
