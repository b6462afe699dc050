//go:build labkube

// Command kubeproxy-state lets kube-proxy's own proxier code write its rules into the network namespace that it runs in,
// without a cluster: the objects come from a file, from a generator, or one case a line on standard input.
//
//	kubeproxy-state --file case.yaml
//	kubeproxy-state --backend nftables --services 1000 --endpoints 10
//	kubeproxy-state --stdin < cases.jsonl
//
// The first two leave the state behind and print one answer. The last applies each case (type Case) in the place of the
// one before, and answers each with one line of JSON (type Answer) once its rules stand in the kernel. Rules are written
// by the real iptables-legacy, iptables-nft or nft.
//
// It refuses to run in the network namespace of the machine's first process: what it finds there is not its own. Who may
// not ask which namespace that is has to say --here.
//
// Its build tag is that of labkube, for the same reason.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

// maxLine bounds one case on standard input.
const maxLine = 256 << 20

// Answer tells how a case went.
type Answer struct {
	Name string `json:"name,omitempty"`
	// Synced is true when kube-proxy has written all rules of the case.
	Synced bool `json:"synced"`
	// Error says why not.
	Error string `json:"error,omitempty"`
	// Milliseconds is how long it took, with the removal of what stood before.
	Milliseconds int64 `json:"milliseconds"`
}

type options struct {
	file, backend, family      string
	services, endpoints, batch int
	affinity                   bool
	stdin, verbose, here       bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubeproxy-state:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("kubeproxy-state", flag.ContinueOnError)
	flags.StringVar(&o.file, "file", "", "a case in YAML or JSON")
	flags.StringVar(&o.backend, "backend", "", "nftables, iptables-nft or iptables-legacy; overrides the case's")
	flags.StringVar(&o.family, "family", "ipv4", "ipv4, ipv6 or dual: of the generated objects")
	flags.IntVar(&o.services, "services", 0, "generate a case of so many Services")
	flags.IntVar(&o.endpoints, "endpoints", 10, "endpoints of each generated Service")
	flags.BoolVar(&o.affinity, "affinity", false, "give the generated Services session affinity: a chain for each endpoint")
	flags.IntVar(&o.batch, "batch", 0, "write at most so many Services in one sync; 0 for what suits the backend")
	flags.BoolVar(&o.stdin, "stdin", false, "apply the cases on standard input, one a line")
	flags.BoolVar(&o.here, "here", false, "write into this network namespace, even if it cannot be told from the machine's")
	flags.BoolVar(&o.verbose, "v", false, "show kube-proxy's log")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if !o.verbose {
		if err := quiet(); err != nil {
			return err
		}
	}
	if err := ownNamespace(o.here); err != nil {
		return err
	}
	tools, err := newTools()
	if err != nil {
		return err
	}
	defer tools.remove()
	m := &maker{tools: tools}
	if o.stdin {
		return m.serve(ctx, in, out, o)
	}
	c, err := o.oneCase()
	if err != nil {
		return err
	}
	a := m.answer(ctx, c)
	if err := json.NewEncoder(out).Encode(a); err != nil {
		return err
	}
	if a.Error != "" {
		return errors.New("the state is not complete")
	}
	return nil
}

// quiet turns kube-proxy's log off.
func quiet() error {
	log := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(log)
	klog.SetOutput(io.Discard)
	return errors.Join(log.Set("logtostderr", "false"), log.Set("stderrthreshold", "FATAL"))
}

// oneCase reads or generates the case that the flags name.
func (o options) oneCase() (*Case, error) {
	if (o.file == "") == (o.services == 0) {
		return nil, errors.New("one of --file, --services and --stdin is needed")
	}
	var c *Case
	if o.file != "" {
		b, err := os.ReadFile(o.file)
		if err != nil {
			return nil, err
		}
		if c, err = decodeCase(b); err != nil {
			return nil, err
		}
	} else {
		g := generator{services: o.services, endpoints: o.endpoints, affinity: o.affinity}
		var err error
		if c, err = g.generate(o.family); err != nil {
			return nil, err
		}
	}
	o.override(c)
	return c, nil
}

func (o options) override(c *Case) {
	if o.backend != "" {
		c.Backend = Backend(o.backend)
	}
	if c.Batch == 0 {
		c.Batch = o.batch
	}
}

// serve applies the cases that it reads until the input ends. A case that cannot be applied is answered, and the next one
// is read.
func (m *maker) serve(ctx context.Context, in io.Reader, out io.Writer, o options) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 1<<20), maxLine)
	encoder := json.NewEncoder(out)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var a Answer
		if c, err := decodeCase(lines.Bytes()); err != nil {
			a.Error = err.Error()
		} else {
			o.override(c)
			a = m.answer(ctx, c)
		}
		if err := encoder.Encode(a); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (m *maker) answer(ctx context.Context, c *Case) Answer {
	start := time.Now()
	a := Answer{Name: c.Name}
	if err := m.apply(ctx, c); err != nil {
		a.Error = strings.TrimSpace(err.Error())
	}
	a.Synced, a.Milliseconds = a.Error == "", time.Since(start).Milliseconds()
	return a
}

// ownNamespace returns an error in the network namespace of process 1; trusted is for where that cannot be told.
func ownNamespace(trusted bool) error {
	first, err := os.Readlink("/proc/1/ns/net")
	if err != nil && trusted {
		return nil
	}
	if err != nil {
		return fmt.Errorf("this network namespace cannot be told from the machine's (--here says that it is another): %w", err)
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	if own == first {
		return errors.New("this is the network namespace of process 1; run it in one of its own (unshare --net)")
	}
	return nil
}
