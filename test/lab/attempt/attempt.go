// Package attempt is the fate of one real connection, as the lab's client prints it and as tests read it.
package attempt

import "net/netip"

// Result is how an attempt ended.
type Result string

// The ways an attempt can end.
const (
	// Answered: the lab's web server answered.
	Answered Result = "answered"
	// Refused: a TCP reset or an ICMP port unreachable came back (ECONNREFUSED).
	Refused Result = "refused"
	// Timeout: nothing came back in time.
	Timeout Result = "timeout"
	// Unreachable: no route here, or an ICMP host or network unreachable came back.
	Unreachable Result = "unreachable"
	// Reset: the connection came about and was then cut off.
	Reset Result = "reset"
	// Error: anything else; Detail says what.
	Error Result = "error"
)

// Attempt is the fate of one connection.
type Attempt struct {
	// Result is how it ended.
	Result Result `json:"result"`
	// Established says that a TCP connection came about, whatever happened after.
	Established bool `json:"established,omitempty"`
	// Errno is the kernel's name for the failure, such as ECONNREFUSED.
	Errno string `json:"errno,omitempty"`
	// Detail is the failure in words.
	Detail string `json:"detail,omitempty"`
	// Pod and Node are the names of the pod that answered and of its node.
	Pod  string `json:"pod,omitempty"`
	Node string `json:"node,omitempty"`
	// Client is the source address that the server saw.
	Client netip.AddrPort `json:"client,omitzero"`
	// Server is the address at which the server accepted.
	Server netip.AddrPort `json:"server,omitzero"`
	// Local is the address that the connection was made from, as its maker saw it.
	Local netip.AddrPort `json:"local,omitzero"`
	// Millis is how long it took, in milliseconds.
	Millis int64 `json:"ms"`
}
