package lab

import (
	"fmt"
	"os"
)

// The roles that a binary with this package plays when it is started under their names: a lab starts its own processes
// from the binary that it is used in (/proc/self/exe), so that a test needs no other file. Arguments are the lab's
// directory and, for a node, its number.
const (
	roleKeeper   = "svctrace-lab-keeper"
	roleInit     = "svctrace-lab-init"
	roleNode     = "svctrace-lab-node"
	roleNodeInit = "svctrace-lab-node-init"
)

// self is the running binary, even if its file is gone.
const self = "/proc/self/exe"

func init() {
	if len(os.Args) == 0 {
		return
	}
	var role func(args []string) error
	switch os.Args[0] {
	case roleKeeper:
		role = keeperMain
	case roleInit:
		role = initMain
	case roleNode:
		role = nodeMain
	case roleNodeInit:
		role = nodeInitMain
	default:
		return
	}
	if err := role(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		os.Exit(1)
	}
	os.Exit(0)
}

// systemPath is PATH for the lab's own processes. /usr/local/sbin comes first: a node with legacy iptables has its
// links there.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
