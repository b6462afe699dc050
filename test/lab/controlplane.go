package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab/pki"
)

// writePKI makes the cluster's certificates, keys and kubeconfigs.
func writePKI(s state, o Options) error {
	if err := os.MkdirAll(s.path("pki"), 0o700); err != nil {
		return err
	}
	a := addresses{o.Family}
	ca, err := pki.NewAuthority("lab-ca")
	if err != nil {
		return err
	}
	w := pkiWriter{state: s, ca: ca, server: a.apiServer()}
	w.files("ca", ca.Pair)
	serviceAccounts := w.issue("sa", pki.Request{CommonName: "service-accounts"})
	if serviceAccounts != nil {
		public, err := serviceAccounts.PublicKey()
		w.note(err)
		w.file("sa.pub", public)
	}
	loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	addrs := append(append(a.controlPlane(), a.addrs(firstServices)...), loopback...)
	w.issue("apiserver", pki.Request{
		CommonName: "kube-apiserver", Addresses: addrs,
		Names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
	})
	w.issue("kubelet-client", pki.Request{CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}})
	w.kubeconfig("admin", "admin", "system:masters")
	w.kubeconfig("controller-manager", "system:kube-controller-manager")
	w.kubeconfig("scheduler", "system:kube-scheduler")
	w.kubeconfig("proxy", "system:kube-proxy")
	for i := range o.Nodes {
		name := nodeName(i + 1)
		w.kubeconfig(name, "system:node:"+name, "system:nodes")
		w.issue(name+"-serving", pki.Request{
			CommonName: "system:node:" + name, Organizations: []string{"system:nodes"},
			Names: []string{name}, Addresses: append(a.node(i+1), loopback...),
		})
	}
	return errors.Join(w.errs...)
}

// pkiWriter issues certificates into the lab's directory and collects the errors.
type pkiWriter struct {
	state  state
	ca     *pki.Authority
	server string
	errs   []error
}

func (w *pkiWriter) note(err error) {
	if err != nil {
		w.errs = append(w.errs, err)
	}
}

func (w *pkiWriter) file(name string, content []byte) {
	w.note(os.WriteFile(w.state.pki(name), content, 0o600))
}

func (w *pkiWriter) files(name string, p *pki.Pair) {
	w.file(name+".crt", p.Cert)
	w.file(name+".key", p.Key)
}

func (w *pkiWriter) issue(name string, r pki.Request) *pki.Pair {
	p, err := w.ca.Issue(r)
	if err != nil {
		w.note(err)
		return nil
	}
	w.files(name, p)
	return p
}

func (w *pkiWriter) kubeconfig(file, user string, groups ...string) {
	p, err := w.ca.Issue(pki.Request{CommonName: user, Organizations: groups})
	if err != nil {
		w.note(err)
		return
	}
	content, err := pki.Kubeconfig(w.server, w.ca.Pair, p)
	if err != nil {
		w.note(err)
		return
	}
	w.file(file+".kubeconfig", content)
}

// controlPlaneCommands are the command lines of the control plane's components.
func controlPlaneCommands(s state, o Options) map[Component][]string {
	a := addresses{o.Family}
	labkube := s.bin("labkube")
	bind := "0.0.0.0"
	if o.Family != IPv4 {
		bind = "::"
	}
	return map[Component][]string{
		Etcd: {labkube, "etcd", "--data-dir=" + s.path(controlPlaneName, "etcd")},
		APIServer: {
			labkube, "kube-apiserver",
			"--etcd-servers=http://127.0.0.1:2379",
			"--bind-address=" + bind,
			fmt.Sprintf("--secure-port=%d", apiServerPort),
			"--advertise-address=" + a.controlPlane()[0].String(),
			"--service-cluster-ip-range=" + strings.Join(a.pick(serviceRanges), ","),
			"--client-ca-file=" + s.pki("ca.crt"),
			"--tls-cert-file=" + s.pki("apiserver.crt"),
			"--tls-private-key-file=" + s.pki("apiserver.key"),
			"--service-account-key-file=" + s.pki("sa.pub"),
			"--service-account-signing-key-file=" + s.pki("sa.key"),
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--authorization-mode=Node,RBAC",
			"--enable-admission-plugins=NodeRestriction",
			"--allow-privileged=true",
			"--kubelet-client-certificate=" + s.pki("kubelet-client.crt"),
			"--kubelet-client-key=" + s.pki("kubelet-client.key"),
			"--kubelet-certificate-authority=" + s.pki("ca.crt"),
			"--kubelet-preferred-address-types=InternalIP",
		},
		ControllerManager: {
			labkube, "kube-controller-manager",
			"--kubeconfig=" + s.kubeconfig("controller-manager"),
			"--leader-elect=false",
			"--root-ca-file=" + s.pki("ca.crt"),
			"--service-account-private-key-file=" + s.pki("sa.key"),
			"--use-service-account-credentials=true",
			"--cluster-signing-cert-file=" + s.pki("ca.crt"),
			"--cluster-signing-key-file=" + s.pki("ca.key"),
			"--bind-address=127.0.0.1",
			// each controller gets its account first; at the default 20 requests a second that takes 5 s
			"--kube-api-qps=1000", "--kube-api-burst=1000",
		},
		Scheduler: {
			labkube, "kube-scheduler",
			"--kubeconfig=" + s.kubeconfig("scheduler"),
			"--leader-elect=false",
			"--bind-address=127.0.0.1",
			"--kube-api-qps=1000", "--kube-api-burst=1000",
		},
	}
}
