// Command kubectl-svctrace is a kubectl plugin: kubectl svctrace SERVICE shows what each node's kernel does with a
// connection to a Service, and whether that is what the API asks for.
package main

import (
	"os"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the providers of kubeconfig files

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}))
}
