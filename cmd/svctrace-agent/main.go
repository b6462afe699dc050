// Command svctrace-agent reads the state of a node's network namespace and says what the kernel does with a packet. The
// kubectl plugin runs it in a pod; on a node it is a command of its own.
//
// It starts for one answer, and most of what that costs is the start itself. So it does without what the Go runtime reads and
// watches for programs that run long, the limits of control groups, which would only bound its threads.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"context"
	"os"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/command"
)

func main() {
	os.Exit(command.Run(context.Background(), os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
