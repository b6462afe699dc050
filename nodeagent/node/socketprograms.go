package node

import (
	"context"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// SocketDoes is what a socket does when programs are asked about it.
type SocketDoes int

// What sockets do.
const (
	SocketConnects SocketDoes = iota // names its destination: connect, sendto
	SocketSends                      // sends a packet, which is routed already
	SocketReceives                   // takes a packet
)

// SocketPrograms tells which BPF programs of control groups sockets meet.
type SocketPrograms interface {
	// SocketPrograms names those that are over this process; none where the kernel has no such programs.
	SocketPrograms(ctx context.Context, do SocketDoes, f skb.Family, proto uint8) ([]string, error)
}
