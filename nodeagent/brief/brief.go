// Package brief prepares a process for a short life: it is imported for what it does at the start.
//
// Most of what one answer of the agent costs is the start of its process. With one processor Go's runtime starts fewer threads and
// keeps memory for one; and there is no profile of memory that anybody reads. It imports nothing but the runtime, so that it is
// initialised before nearly all others: what they allocate would else lie with a processor that goes.
package brief

import "runtime"

func init() {
	runtime.MemProfileRate = 0
	runtime.GOMAXPROCS(1)
}

// AllProcessors is for what lives longer, and does more than one thing at a time: it has as many processors as Go gives a process
// by itself, within the limits of its control group.
func AllProcessors() { runtime.SetDefaultGOMAXPROCS() }
