package launch

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
)

// Attacher connects streams with the standard streams of a running pod's agent, until one side ends.
type Attacher interface {
	Attach(ctx context.Context, namespace, pod string, stdin io.Reader, stdout, stderr io.Writer) error
}

// RemoteAttacher attaches through the API server as kubectl does: by WebSocket, and by SPDY where that is not understood.
type RemoteAttacher struct {
	Config *rest.Config
	Client rest.Interface
}

// Attach implements Attacher.
func (a *RemoteAttacher) Attach(ctx context.Context, namespace, pod string, stdin io.Reader, stdout, stderr io.Writer) error {
	req := a.Client.Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("attach").
		VersionedParams(&corev1.PodAttachOptions{Container: ContainerName, Stdin: true, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	spdy, err := remotecommand.NewSPDYExecutor(a.Config, "POST", req.URL())
	if err != nil {
		return fmt.Errorf("preparing to attach by SPDY: %w", err)
	}
	ws, err := remotecommand.NewWebSocketExecutor(a.Config, "GET", req.URL().String())
	if err != nil {
		return fmt.Errorf("preparing to attach by WebSocket: %w", err)
	}
	both, err := remotecommand.NewFallbackExecutor(ws, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return fmt.Errorf("preparing to attach: %w", err)
	}
	return both.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Stderr: stderr})
}
