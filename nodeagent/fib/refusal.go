package fib

import "github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"

// errno is a Linux error number, 0 for none.
type errno int

const (
	eAGAIN       errno = 11
	eACCES       errno = 13
	eNODEV       errno = 19
	eINVAL       errno = 22
	eNETUNREACH  errno = 101
	eHOSTUNREACH errno = 113
)

var errnoNames = map[errno]string{
	eAGAIN: "EAGAIN", eACCES: "EACCES", eNODEV: "ENODEV", eINVAL: "EINVAL", eNETUNREACH: "ENETUNREACH",
	eHOSTUNREACH: "EHOSTUNREACH",
}

// refusal is why a lookup gives no route; the zero value is none.
type refusal struct {
	errno  errno
	reason string
}

func (r refusal) refused() bool { return r.errno != 0 }

func (r refusal) err() error {
	if r.errno == 0 {
		return nil
	}
	return &node.RouteError{Errno: errnoNames[r.errno], Number: int(r.errno), Reason: r.reason}
}

// typeError is the error of a route of a type (fib_props of net/ipv4/fib_semantics.c, fib6_prop of net/ipv6/route.c).
func typeError(t node.RouteType) errno {
	switch t {
	case node.RouteBlackhole:
		return eINVAL
	case node.RouteUnreachable:
		return eHOSTUNREACH
	case node.RouteProhibit:
		return eACCES
	case node.RouteThrow:
		return eAGAIN
	}
	return 0
}
