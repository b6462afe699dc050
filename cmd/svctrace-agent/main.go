// Command svctrace-agent reads the state of a node's network namespace and says what the kernel does with a packet. The
// kubectl plugin runs it in a pod; on a node it is a command of its own.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := command.Run(ctx, os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
