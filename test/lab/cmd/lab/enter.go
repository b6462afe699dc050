package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// attached runs a command in a place with this process's own streams and terminal.
func attached(cmd *cobra.Command, p *lab.Place, env []string, program string, args ...string) error {
	// an interrupt is for the command inside: this process waits for what it makes of it
	c, err := p.Command(context.WithoutCancel(cmd.Context()), program, args...)
	if err != nil {
		return err
	}
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(c.Env, env...)
	c.SysProcAttr = &syscall.SysProcAttr{} // stay in the terminal's foreground process group
	return c.Run()
}

// find finds a place by name: cp, outside, router, beyond, node1, …, or pod/NAMESPACE/NAME.
func find(l *lab.Lab, name string) (*lab.Place, error) {
	if pod, ok := strings.CutPrefix(name, "pod/"); ok {
		namespace, pod, ok := strings.Cut(pod, "/")
		if !ok {
			return nil, fmt.Errorf("%q: want pod/NAMESPACE/NAME", name)
		}
		return l.Pod(namespace, pod).Place, nil
	}
	return l.Place(name)
}

func shellCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "shell PLACE",
		Short: "A shell on a node (node1, …), the control plane (cp), the outside, the router, beyond it, or in pod/NAMESPACE/NAME",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			p, err := find(l, args[0])
			if err != nil {
				return err
			}
			if strings.HasPrefix(args[0], "pod/") {
				return attached(cmd, p, []string{"TERM=" + os.Getenv("TERM")}, "sh")
			}
			return attached(cmd, p, []string{"PS1=" + *name + "/" + args[0] + ":\\w# "}, "bash", "--norc")
		},
	}
}

func execCommand(name *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec PLACE -- COMMAND [ARGUMENT...]",
		Short: "Run a command where `lab shell` would be",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			p, err := find(l, args[0])
			if err != nil {
				return err
			}
			if args[1] == "--" { // flags end at the place: pflag leaves the dashes in
				args = append(args[:1], args[2:]...)
			}
			if len(args) < 2 {
				return errors.New("name a command to run")
			}
			return attached(cmd, p, nil, args[1], args[2:]...)
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func kubectlCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [ARGUMENT...]",
		Short:              "Run kubectl in the lab (for another lab: lab --name NAME kubectl …)",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			return attached(cmd, l.ControlPlane(), nil, "kubectl", args...)
		},
	}
}

func connectCommand(name *string) *cobra.Command {
	var o lab.ConnectOptions
	cmd := &cobra.Command{
		Use:   "connect FROM ADDR:PORT",
		Short: "Make real connections and print the fate of each",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			p, err := find(l, args[0])
			if err != nil {
				return err
			}
			to, err := netip.ParseAddrPort(args[1])
			if err != nil {
				return err
			}
			attempts, err := p.Connect(cmd.Context(), to, o)
			out := json.NewEncoder(cmd.OutOrStdout())
			for _, a := range attempts {
				if err := out.Encode(a); err != nil {
					return err
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Protocol, "proto", "tcp", "tcp or udp")
	f.IntVar(&o.Count, "count", 1, "number of connections")
	f.IntVar(&o.Size, "size", 0, "bytes to ask with and to be answered with, at least")
	f.DurationVar(&o.Timeout, "timeout", 0, "how long one may take (default 2s)")
	return cmd
}

func demoCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Make the worked example: Service web with two pods",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			d, err := l.Demo(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "service web: %v, load balancer %v, node port %d\n", d.ClusterIPs, d.LoadBalancers, d.NodePort)
			for _, p := range d.Pods {
				fmt.Fprintf(cmd.OutOrStdout(), "pod %s on %s: %v\n", p.Name, p.Spec.NodeName, p.Status.PodIP)
			}
			return nil
		},
	}
}
