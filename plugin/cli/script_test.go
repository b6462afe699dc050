package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kubectl-svctrace": func() {
			os.Exit(Main(os.Args[1:], genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}))
		},
	})
}

// TestScripts runs the command line as users do. Each script has an API server of its own; what it answers to the creation
// of a pod is chosen by the script's file name.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			api := &scriptAPI{refusal: refusals[strings.TrimPrefix(filepath.Base(e.WorkDir), "script-")]}
			server := httptest.NewServer(api)
			e.Defer(server.Close)
			config := filepath.Join(e.WorkDir, "kubeconfig")
			e.Setenv("KUBECONFIG", config)
			e.Setenv("HOME", e.WorkDir)
			return os.WriteFile(config, []byte(fmt.Sprintf(kubeconfig, server.URL)), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": expectCode},
	})
}

const kubeconfig = `apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: %s}}]
users: [{name: test, user: {token: abc}}]
contexts: [{name: test, context: {cluster: test, user: test, namespace: shop}}]
`

// expectCode runs the plugin and compares its exit code: code 2 web --bogus.
func expectCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: code CODE [ARGUMENT...]")
	}
	got := "0"
	if err := ts.Exec("kubectl-svctrace", args[1:]...); err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// refusals are the answers to the creation of a pod, by the name of the script.
var refusals = map[string]*apierrors.StatusError{
	"no-permission": apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "",
		errors.New(`user "eve" cannot create resource "pods" in API group "" in the namespace "shop"`)),
	"pod-security": apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "svctrace-agent-node1-abc",
		fmt.Errorf(`violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true, hostPID=true)`)),
}

// scriptAPI is an API server with one Service and one node; it runs no pods.
type scriptAPI struct{ refusal *apierrors.StatusError }

func (s *scriptAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	headless := webService()
	headless.Name, headless.Spec.ClusterIP, headless.Spec.ClusterIPs = "db", "None", nil
	switch p := r.URL.Path; {
	case r.Method == http.MethodPost && s.refusal != nil:
		status := s.refusal.Status()
		respond(w, int(status.Code), &status, "v1", "Status")
	case p == "/api/v1/namespaces/shop":
		respond(w, 200, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, "v1", "Namespace")
	case p == "/api/v1/namespaces/shop/services/web":
		respond(w, 200, webService(), "v1", "Service")
	case p == "/api/v1/namespaces/shop/services/db":
		respond(w, 200, headless, "v1", "Service")
	case p == "/api/v1/services", p == "/api/v1/namespaces/shop/services":
		respond(w, 200, &corev1.ServiceList{Items: []corev1.Service{*webService(), *headless}}, "v1", "ServiceList")
	case p == "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices":
		respond(w, 200, &discoveryv1.EndpointSliceList{Items: []discoveryv1.EndpointSlice{*webSlice("10.244.1.10")}}, "discovery.k8s.io/v1", "EndpointSliceList")
	case p == "/api/v1/nodes":
		respond(w, 200, &corev1.NodeList{Items: []corev1.Node{*node("node1", 1, true)}}, "v1", "NodeList")
	case r.URL.Query().Get("watch") != "":
		w.WriteHeader(http.StatusOK) // and no event
	case strings.HasSuffix(p, "/pods"):
		respond(w, 200, &corev1.PodList{}, "v1", "PodList")
	default:
		status := apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, filepath.Base(p)).Status()
		respond(w, 404, &status, "v1", "Status")
	}
}

func respond(w http.ResponseWriter, code int, o runtime.Object, version, kind string) {
	o.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(version, kind))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(o)
}
