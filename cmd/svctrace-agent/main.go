// Command svctrace-agent reads the state of a node's network namespace and says what the kernel does with a packet. The
// kubectl plugin runs it in a pod; on a node it is a command of its own.
package main

import (
	"context"
	"os"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/command"
)

func main() {
	os.Exit(command.Run(context.Background(), os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
