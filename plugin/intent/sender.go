package intent

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// defaultContainer is the annotation by which kubectl exec and logs choose a container.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// Sender is the container that a pod's packets start in. As which user and group it sends is for its process on the node to
// tell; where there is none, User and Group are what the pod demands.
type Sender struct {
	Container string
	// ID is the container's in the pod's status, such as containerd://0123…; empty while it does not run.
	ID          string
	User, Group NumericID
}

// NumericID is a user or group by its number, if it is known.
type NumericID struct {
	ID    uint32
	Known bool
}

// Value returns the number, nil when it is not known.
func (n NumericID) Value() *uint32 {
	if !n.Known {
		return nil
	}
	return &n.ID
}

// senderOf chooses the container with a name, or, without one, the container that kubectl exec would: that of the annotation,
// else the first.
func senderOf(p *corev1.Pod, name string) Sender {
	name = cmp.Or(name, p.Annotations[defaultContainer])
	all := append(slices.Clone(p.Spec.Containers), p.Spec.InitContainers...)
	i := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		i = 0
	}
	if len(all) == 0 {
		return Sender{}
	}
	out := Sender{Container: all[i].Name}
	for _, s := range append(slices.Clone(p.Status.ContainerStatuses), p.Status.InitContainerStatuses...) {
		if s.Name == out.Container && s.State.Running != nil {
			out.ID = s.ContainerID
		}
	}
	if c := p.Spec.SecurityContext; c != nil {
		out.User, out.Group = numeric(c.RunAsUser, out.User), numeric(c.RunAsGroup, out.Group)
	}
	if c := all[i].SecurityContext; c != nil {
		out.User, out.Group = numeric(c.RunAsUser, out.User), numeric(c.RunAsGroup, out.Group)
	}
	return out
}

// numeric is the number that an object gives, or the one before.
func numeric(v *int64, before NumericID) NumericID {
	if v == nil || *v < 0 || *v > 1<<32-1 {
		return before
	}
	return NumericID{ID: uint32(*v), Known: true}
}
