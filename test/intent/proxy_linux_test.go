package intent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// state is what one kube-proxy sees, as test/lab/cmd/kubeproxy-state reads it.
type state struct {
	Name           string                      `json:"name"`
	Backend        string                      `json:"backend"`
	NodeName       string                      `json:"nodeName"`
	Families       []corev1.IPFamily           `json:"families"`
	Config         json.RawMessage             `json:"config"`
	ServiceCIDRs   []string                    `json:"serviceCIDRs"`
	Nodes          []corev1.Node               `json:"nodes"`
	Services       []corev1.Service            `json:"services"`
	EndpointSlices []discoveryv1.EndpointSlice `json:"endpointSlices"`
}

// proxy is a running kubeproxy-state in the calling thread's namespace.
type proxy struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startProxy(ctx context.Context, program string) (*proxy, error) {
	p := &proxy{cmd: exec.CommandContext(ctx, program, "--stdin", "--here")}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("kubeproxy-state's input: %w", err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("kubeproxy-state's output: %w", err)
	}
	p.in, p.out = in, bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting kubeproxy-state: %w", err)
	}
	return p, nil
}

// write lets kube-proxy write the rules of a state, in the place of those before.
func (p *proxy) write(s *state) error {
	if err := json.NewEncoder(p.in).Encode(s); err != nil {
		return fmt.Errorf("giving kubeproxy-state %s: %w", s.Name, err)
	}
	if !p.out.Scan() {
		return fmt.Errorf("kubeproxy-state ended without an answer to %s: %w", s.Name, p.out.Err())
	}
	var answer struct {
		Synced bool   `json:"synced"`
		Error  string `json:"error"`
	}
	if err := json.Unmarshal(p.out.Bytes(), &answer); err != nil {
		return fmt.Errorf("kubeproxy-state's answer %q: %w", p.out.Text(), err)
	}
	if !answer.Synced {
		return fmt.Errorf("kubeproxy-state did not write %s: %s", s.Name, answer.Error)
	}
	return nil
}

func (p *proxy) stop() error {
	if err := p.in.Close(); err != nil {
		return fmt.Errorf("ending kubeproxy-state: %w", err)
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("kubeproxy-state: %w", err)
	}
	return nil
}
