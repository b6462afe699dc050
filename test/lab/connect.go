package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab/attempt"
)

// Attempt is the fate of one real connection.
type Attempt = attempt.Attempt

// Result is how an attempt ended.
type Result = attempt.Result

// The ways an attempt can end; package attempt says what each means.
const (
	Answered    = attempt.Answered
	Refused     = attempt.Refused
	Timeout     = attempt.Timeout
	Unreachable = attempt.Unreachable
	Reset       = attempt.Reset
	Error       = attempt.Error
)

// ConnectOptions say how to connect. The zero value is one TCP connection with two seconds of patience.
type ConnectOptions struct {
	// Protocol is tcp or udp; empty means tcp.
	Protocol string
	// Count is how many connections to make; 0 means 1.
	Count int
	// Parallel is how many to make at a time; 0 means 16.
	Parallel int
	// Timeout is how long one may take; 0 means 2 s.
	Timeout time.Duration
	// Local is the address and port to connect from. The zero value lets the kernel choose, and so does port 0.
	Local netip.AddrPort
	// Size is how many bytes to ask with and to be answered with, at least, up to 60000; 0 means no more than is needed.
	Size int
}

// Attempts are the fates of the connections of one call.
type Attempts []Attempt

// Connect makes real, new connections from the place's network namespace, asks whoever answers who it is, and tells the
// fate of each. An attempt that fails is not an error; an error means that not all were made.
func (p *Place) Connect(ctx context.Context, to netip.AddrPort, o ConnectOptions) (Attempts, error) {
	if o.Protocol == "" {
		o.Protocol = "tcp"
	}
	if o.Count == 0 {
		o.Count = 1
	}
	if o.Parallel == 0 {
		o.Parallel = 16
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	argv := []string{
		p.lab.state.bin("client"), "connect", "--proto", o.Protocol, "--timeout", o.Timeout.String(),
		"--count", fmt.Sprint(o.Count), "--parallel", fmt.Sprint(o.Parallel),
	}
	if o.Local.IsValid() {
		argv = append(argv, "--local", o.Local.String())
	}
	if o.Size != 0 {
		argv = append(argv, "--size", fmt.Sprint(o.Size))
	}
	argv = append(argv, to.String())
	netns, err := p.netns(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect from %s: %w", p, err)
	}
	// the client's own limit, and time to start
	limit := time.Duration(o.Count/o.Parallel+1)*o.Timeout + 10*time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out, err := p.output(p.lab.nsenter(ctx, []string{"--net=" + netns}, false, argv), "", argv)
	if err != nil {
		return nil, err
	}
	attempts, err := parseAttempts([]byte(out))
	if err == nil && len(attempts) != o.Count {
		err = fmt.Errorf("connect from %s: %d of %d attempts reported", p, len(attempts), o.Count)
	}
	return attempts, err
}

func parseAttempts(out []byte) (Attempts, error) {
	var all Attempts
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var a Attempt
		err := d.Decode(&a)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the client's report: %w", err)
		}
		all = append(all, a)
	}
}

// ByResult counts the attempts by how they ended.
func (as Attempts) ByResult() map[Result]int {
	return count(as, func(a Attempt) (Result, bool) { return a.Result, true })
}

// ByPod counts the answers by the pod that gave them.
func (as Attempts) ByPod() map[string]int {
	return count(as, func(a Attempt) (string, bool) { return a.Pod, a.Result == Answered })
}

// ByServer counts the answers by the endpoint, address and port, at which they were given.
func (as Attempts) ByServer() map[netip.AddrPort]int {
	return count(as, func(a Attempt) (netip.AddrPort, bool) { return a.Server, a.Result == Answered })
}

// BySource counts the answers by the source address that the server saw.
func (as Attempts) BySource() map[netip.Addr]int {
	return count(as, func(a Attempt) (netip.Addr, bool) { return a.Client.Addr(), a.Result == Answered })
}

// All says whether every attempt, and at least one, ended so.
func (as Attempts) All(r Result) bool { return len(as) > 0 && as.ByResult()[r] == len(as) }

func count[K comparable](as Attempts, key func(Attempt) (K, bool)) map[K]int {
	counts := map[K]int{}
	for _, a := range as {
		if k, ok := key(a); ok {
			counts[k]++
		}
	}
	return counts
}
