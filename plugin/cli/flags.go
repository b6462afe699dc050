package cli

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch"
)

// runFlags are the flags of every verb that runs agents, as the user gave them.
type runFlags struct {
	config *genericclioptions.ConfigFlags
	genericiooptions.IOStreams

	nodes          []string
	maxNodes       int
	from           []string
	fromNamespace  string
	to             []string
	image          string
	pullPolicy     string
	pullSecrets    []string
	agentNamespace string
	profile        string
	timeout        time.Duration
	external       []string
	failOn         string
	verbose        int
}

func newRunFlags(config *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *runFlags {
	return &runFlags{config: config, IOStreams: streams, maxNodes: 10, profile: string(launch.NetAdmin), timeout: time.Minute, failOn: string(diagnose.Error)}
}

func (f *runFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringSliceVar(&f.nodes, "node", nil, "Trace on this node; may be repeated. The default is the nodes of the endpoints and one node without any.")
	fs.IntVar(&f.maxNodes, "max-nodes", f.maxNodes, "The most nodes that are chosen without --node, and that walks are followed to.")
	fs.StringSliceVar(&f.from, "from", nil, "Where connections start: pod/NAME[/CONTAINER], node/NAME, deploy/NAME (or another workload: one of its pods), external[=ADDRESS]; may be repeated. The default is a pod, the node itself and an address outside, on each chosen node.")
	fs.StringVar(&f.fromNamespace, "from-namespace", "", "The namespace of the pods and workloads that --from names. The default is the Service's.")
	fs.StringSliceVar(&f.to, "to", nil, "Trace only these access paths: clusterip, nodeport, loadbalancer or externalip, an address, a port or its name, or KIND:PORT; may be repeated. The default is all.")
	fs.StringVar(&f.image, "image", "", "The agent's image. The default is "+defaultImage()+", or what "+imageVariable+" says.")
	fs.StringVar(&f.pullPolicy, "image-pull-policy", "", "The pull policy of the agent's image: Always, IfNotPresent or Never.")
	fs.StringSliceVar(&f.pullSecrets, "image-pull-secret", nil, "A secret of the agent's namespace with credentials for its image; may be repeated.")
	fs.StringVar(&f.agentNamespace, "agent-namespace", "", "The namespace that the agent pods run in. The default is the Service's.")
	fs.StringVar(&f.profile, "profile", f.profile, "What the agent is allowed: netadmin (the capabilities that the reads need) or privileged.")
	fs.DurationVar(&f.timeout, "timeout", f.timeout, "How long to wait until the agents run and have answered.")
	fs.StringSliceVar(&f.external, "external", nil, "An address outside the cluster that connections come from; one for each IP family. The default is an address for documentation.")
	fs.StringVar(&f.failOn, "fail-on", f.failOn, "Exit with 1 if there is a finding as bad as this: error, warning, info or none.")
	fs.CountVarP(&f.verbose, "verbose", "v", "Print on standard error what took how long.")
	f.complete(cmd)
}

// runOptions are what a verb that runs agents works with.
type runOptions struct {
	genericiooptions.IOStreams

	client   kubernetes.Interface
	attacher launch.Attacher

	probe int // real connections for each client and access path, 0 for none

	namespace string
	service   string
	nodes     []string
	maxNodes  int
	from      []origin
	// fromNamespace is where pods and workloads of from are; empty for the Service's.
	fromNamespace string
	to            []string

	agents  launch.Options
	outside map[intent.Family]netip.Addr
	failOn  diagnose.Severity // empty for none
	verbose int
}

// toOptions turns flags into options and connects to the cluster.
func (f *runFlags) toOptions(cmd *cobra.Command, args []string) (*runOptions, error) {
	o := &runOptions{IOStreams: f.IOStreams, nodes: f.nodes, maxNodes: f.maxNodes, fromNamespace: f.fromNamespace, to: f.to, verbose: f.verbose, outside: map[intent.Family]netip.Addr{}}
	var err error
	if o.service, err = serviceName(cmd, args); err != nil {
		return nil, err
	}
	if err := f.validate(); err != nil {
		return nil, err
	}
	if o.from, err = parseOrigins(f.from); err != nil {
		return nil, err
	}
	if f.failOn != "none" {
		o.failOn = diagnose.Severity(f.failOn)
	}
	for family, a := range intent.Outside {
		o.outside[family] = a
	}
	for _, s := range f.external {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, usagef("", "--external %q is no IP address: use one such as 203.0.113.7", s)
		}
		o.outside[intent.FamilyOf(a)] = a.Unmap()
	}
	client, config, namespace, err := connect(f.config, f.verbose > 0)
	if err != nil {
		return nil, err
	}
	o.client, o.namespace = client, namespace
	o.attacher = &launch.RemoteAttacher{Config: config, Client: client.CoreV1().RESTClient()}
	o.agents = launch.Options{
		Namespace: f.agentNamespace, Image: f.image, PullPolicy: corev1.PullPolicy(f.pullPolicy), PullSecrets: f.pullSecrets,
		Profile: launch.Profile(f.profile), Timeout: f.timeout,
	}
	if o.agents.Namespace == "" {
		o.agents.Namespace = namespace
	}
	if o.agents.Image == "" {
		o.agents.Image = defaultImage()
	}
	return o, nil
}

// validate checks the values of flags that need no cluster.
func (f *runFlags) validate() error {
	if f.failOn != "none" {
		if _, err := diagnose.ParseSeverity(f.failOn); err != nil {
			return usagef("", "--fail-on %q: use error, warning, info or none", f.failOn)
		}
	}
	if _, err := launch.ParseProfile(f.profile); err != nil {
		return usagef("", "--profile: %s", err)
	}
	if f.pullPolicy != "" && !slices.Contains([]string{"Always", "IfNotPresent", "Never"}, f.pullPolicy) {
		return usagef("", "--image-pull-policy %q: use Always, IfNotPresent or Never", f.pullPolicy)
	}
	if f.maxNodes < 1 {
		return usagef("", "--max-nodes %d: use at least 1", f.maxNodes)
	}
	if f.timeout <= 0 {
		return usagef("", "--timeout %s: use one longer than 0s", f.timeout)
	}
	if err := checkNamespace("--agent-", f.agentNamespace); f.agentNamespace != "" && err != nil {
		return err
	}
	if strings.ContainsAny(f.image, " \t\n") {
		return usagef("", "--image %q holds a blank: use one such as %s", f.image, defaultImage())
	}
	return nil
}

// connect builds a client from kubectl's own flags, and finds the namespace they choose.
func connect(f *genericclioptions.ConfigFlags, warnings bool) (*kubernetes.Clientset, *rest.Config, string, error) {
	namespace, _, err := f.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, nil, "", usagef("see kubectl config get-contexts, and choose with --context or --kubeconfig", "the kubeconfig cannot be used: %s", err)
	}
	if err := checkNamespace("", namespace); err != nil {
		return nil, nil, "", err
	}
	config, err := f.ToRESTConfig()
	if err != nil {
		return nil, nil, "", usagef("see kubectl config get-contexts, and choose with --context or --kubeconfig", "the kubeconfig cannot be used: %s", err)
	}
	config.QPS, config.Burst = 100, 200
	config.UserAgent = "kubectl-svctrace/" + Version
	if !warnings {
		config.WarningHandler = rest.NoWarnings{}
	}
	typed := rest.CopyConfig(config)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, nil, "", usagef("see kubectl config view", "the kubeconfig cannot be used: %s", err)
	}
	return client, config, namespace, nil
}

// checkNamespace refuses what is no name of a namespace, and what would not even reach the API server. flag is what it was
// given with, empty for kubectl's own ways.
func checkNamespace(flag, name string) error {
	if why := content.IsPathSegmentName(name); len(why) > 0 {
		return usagef("list the namespaces with: kubectl get namespaces", "%snamespace %q %s", flag, name, why[0])
	}
	return nil
}
