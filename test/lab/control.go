package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A node's process 1, and init for the control plane, take orders on a socket in the lab's directory: one JSON
// request and one JSON reply a connection.
type (
	controlRequest struct {
		// Do is start, stop or status.
		Do        string
		Component Component `json:",omitempty"`
	}
	controlReply struct {
		Error   string               `json:",omitempty"`
		Running []Component          `json:",omitempty"`
		Ended   map[Component]string `json:",omitempty"`
		// Loaded says that a node has its images.
		Loaded bool `json:",omitempty"`
	}
)

// controlTimeout is enough for stopping a component that does not end on SIGTERM.
const controlTimeout = 15 * time.Second

// serveControl answers requests until the process ends.
func serveControl(path string, answer func(controlRequest) controlReply) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				fmt.Fprintln(os.Stderr, "control socket:", err)
				return
			}
			go func() {
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
					return
				}
				var request controlRequest
				if err := json.NewDecoder(conn).Decode(&request); err != nil {
					return // who only connects wants to know the process behind the socket
				}
				if err := json.NewEncoder(conn).Encode(answer(request)); err != nil {
					fmt.Fprintln(os.Stderr, "control socket:", err)
				}
			}()
		}
	}()
	return nil
}

// handle does what the request asks of the components.
func (s *supervisor) handle(r controlRequest) controlReply {
	var err error
	switch r.Do {
	case "start":
		err = s.start(r.Component)
	case "stop":
		err = s.stop(r.Component)
	case "status":
	default:
		err = fmt.Errorf("unknown request %q", r.Do)
	}
	var reply controlReply
	if err != nil {
		reply.Error = err.Error()
	}
	reply.Running, reply.Ended = s.states()
	return reply
}

func dialControl(ctx context.Context, path string) (*net.UnixConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%s: not a unix socket", path)
	}
	return unixConn, nil
}

// askControl sends one request and waits for its reply.
func askControl(ctx context.Context, path string, r controlRequest) (controlReply, error) {
	var reply controlReply
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	conn, err := dialControl(ctx, path)
	if err != nil {
		return reply, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return reply, err
	}
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return reply, fmt.Errorf("ask %s: %w", path, err)
	}
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		return reply, fmt.Errorf("ask %s: %w", path, err)
	}
	if reply.Error != "" {
		return reply, errors.New(reply.Error)
	}
	return reply, nil
}

// controlPID is the number, in the caller's pid namespace, of the process that serves the socket: the kernel
// translates the listener's number for whoever asks (SO_PEERCRED, unix(7)).
func controlPID(ctx context.Context, path string) (int, error) {
	conn, err := dialControl(ctx, path)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, fmt.Errorf("ask for the process behind %s: %w", path, failed)
	}
	return int(cred.Pid), nil
}
