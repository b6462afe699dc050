package cli

import "os"

// Version is the plugin's version; a release stamps it with -ldflags "-X …/plugin/cli.Version=v1.2.3".
var Version = "v0.1.0"

// imageVariable overrides the agent's image where the flag is not given.
const imageVariable = "SVCTRACE_IMAGE"

// defaultImage is the agent's image of the plugin's own version. It names no registry: the node's container runtime
// decides where it comes from.
func defaultImage() string {
	if image := os.Getenv(imageVariable); image != "" {
		return image
	}
	return "kubectl-svctrace/svctrace-agent:" + Version
}
