package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

func upCommand(name *string) *cobra.Command {
	var (
		o                lab.Options
		proxy, family    string
		network, between string
	)
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a lab, building what is missing first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Proxy, err = lab.ParseProxyModes(proxy); err != nil {
				return fmt.Errorf("--proxy: %w", err)
			}
			if o.Family, err = lab.ParseFamily(family); err != nil {
				return fmt.Errorf("--family: %w", err)
			}
			if o.Network, err = lab.ParseNetwork(network); err != nil {
				return fmt.Errorf("--network: %w", err)
			}
			if o.Between, err = lab.ParseBetween(between); err != nil {
				return fmt.Errorf("--between: %w", err)
			}
			o.Name, o.Detach, o.Progress = *name, true, cmd.ErrOrStderr()
			l, err := lab.Start(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "lab %s is up after %v: `lab shell cp`, `lab kubectl get nodes`, `lab down`\n",
				l.Name(), l.BringUp.Round(100*time.Millisecond))
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", 2, "number of nodes")
	f.StringVar(&proxy, "proxy", string(lab.NFTables), "iptables, iptables-legacy or nftables; for each node, separated by commas")
	f.StringVar(&family, "family", string(lab.IPv4), "ipv4, ipv6 or dual")
	f.StringVar(&network, "network", string(lab.Bridge), "how pods are connected to their node: bridge or routed")
	f.StringVar(&between, "between", string(lab.HostGateway), "how pods' packets come from node to node: hostgw or vxlan")
	f.IntVar(&o.PodMTU, "pod-mtu", 0, "MTU of pods; 0: as much as fits (1500 with --between vxlan is a fault)")
	f.BoolVar(&o.Beyond, "beyond", false, "add a client (beyond) behind a router (router)")
	f.StringSliceVar(&o.Images, "image", nil, "image archives to load into every node")
	return cmd
}

func downCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End a lab and remove all of it",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return lab.Down(cmd.Context(), *name) },
	}
}

func listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the labs on this machine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := lab.List()
			if err != nil {
				return err
			}
			for _, n := range names {
				l, err := lab.Open(n)
				if err != nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s\tended\n", n)
					continue
				}
				o := l.Options()
				fmt.Fprintf(cmd.OutOrStdout(), "%s\t%d nodes\t%s\t%v", n, o.Nodes, o.Family, o.Proxy)
				if o.Network != lab.Bridge || o.Between != lab.HostGateway {
					fmt.Fprintf(cmd.OutOrStdout(), "\t%s, %s", o.Network, o.Between)
				}
				fmt.Fprintln(cmd.OutOrStdout())
			}
			return nil
		},
	}
}

func buildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "build",
		Short: "Build what a lab needs into the cache; about 11 minutes the first time",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := lab.Build(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), p.Labkube)
			return nil
		},
	}
}

func depsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "deps",
		Short: "Install the Debian packages that a lab needs and that are missing",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return lab.Install(cmd.Context(), cmd.ErrOrStderr()) },
	}
}
