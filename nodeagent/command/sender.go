package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/container"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// senderOf finds out as whom a container sends, and in which network namespace it is: by its process on this node, else,
// for the user, by what its pod demands. The owner is nil when neither tells.
func senderOf(proc string, s *wire.Sender) (owner *trace.Owner, namespace string, err error) {
	if s == nil {
		return nil, "", nil
	}
	if s.ContainerID != "" {
		p, err := container.Find(proc, s.ContainerID)
		if err == nil {
			return &trace.Owner{User: p.UID, Group: &p.GID, Groups: p.Groups, From: describeProcess(s, p)}, p.Network, nil
		}
		if !errors.Is(err, node.ErrNotFound) {
			return nil, "", err
		}
	}
	if s.User == nil {
		return nil, "", nil
	}
	return &trace.Owner{User: *s.User, Group: s.Group, From: fmt.Sprintf("as the pod demands of container %s; no process of it was found", s.Container)}, "", nil
}

func describeProcess(s *wire.Sender, p container.Process) string {
	out := fmt.Sprintf("container %s, pid %d %s", s.Container, p.PID, p.Program)
	if len(p.Others) == 0 {
		return out
	}
	users := make([]string, len(p.Others))
	for i, u := range p.Others {
		users[i] = fmt.Sprint(u)
	}
	return out + "; other processes of it run as user " + strings.Join(users, ", ")
}
