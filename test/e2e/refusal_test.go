package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// refusal is a run that cannot give an answer.
type refusal struct {
	args []string
	code int
	// says must all be in what standard error says.
	says []string
}

// TestRefusals runs what cannot be answered: each run says why in a sentence, what to do next, ends with the right code,
// writes nothing to standard output, and leaves no pod.
func TestRefusals(t *testing.T) {
	c := newCluster(t, "refusals", lab.IPv4)
	ctx := within(t, 4*time.Minute)
	if err := c.makeWeb(ctx, named("plain")); err != nil {
		t.Fatal(err)
	}
	c.makeUntranslatable(ctx, t)

	t.Run("input", func(t *testing.T) {
		for name, r := range map[string]refusal{
			"near name":       {[]string{"plian"}, exitUsage, []string{"default/plian does not exist", "did you mean plain?"}},
			"other namespace": {[]string{"plain", "-n", "kube-system"}, exitUsage, []string{"kube-system/plain does not exist", "did you mean default/plain?", "-n default"}},
			"no near name":    {[]string{"zzzzzz"}, exitUsage, []string{"default/zzzzzz does not exist", "kubectl get services"}},
			"headless":        {[]string{"headless"}, exitUsage, []string{"default/headless is headless", "DNS answers"}},
			"external name":   {[]string{"elsewhere"}, exitUsage, []string{"default/elsewhere is of type ExternalName", "CNAME to elsewhere.example"}},
			"no service":      {nil, exitUsage, []string{"no Service was named"}},
			"unknown flag":    {[]string{"plain", "--colour"}, exitUsage, []string{"--colour"}},
			"unknown output":  {[]string{"plain", "-o", "xml"}, exitUsage, []string{"xml"}},
			"unknown node":    {[]string{"plain", "--node", "nod1"}, exitUsage, []string{"node nod1 does not exist", "did you mean node1"}},
			"unreachable API": {[]string{"plain", "--server", "https://10.250.0.10:1"}, exitUnknown, []string{"cannot be reached"}},
		} {
			t.Run(name, func(t *testing.T) { c.refused(ctx, t, r) })
		}
	})
	t.Run("image", func(t *testing.T) {
		for name, r := range map[string]refusal{
			"not pulled": {[]string{"plain", "--image", "lab.test/absent:1"}, exitUnknown, []string{"cannot pull the agent's image lab.test/absent:1", "--image"}},
			"never pulled": {[]string{"plain", "--image", "lab.test/absent:1", "--image-pull-policy", "Never"}, exitUnknown,
				[]string{"does not have the agent's image lab.test/absent:1"}},
			"no agent in it": {[]string{"plain", "--image", lab.WebImage, "--image-pull-policy", "Never", "--timeout", "3s"}, exitUnknown,
				[]string{"the agent on node", "did not answer within 3s"}},
		} {
			t.Run(name, func(t *testing.T) { c.refused(ctx, t, r) })
		}
	})
	t.Run("admission", func(t *testing.T) {
		c.label(ctx, t, "pod-security.kubernetes.io/enforce", `"restricted"`)
		defer c.label(ctx, t, "pod-security.kubernetes.io/enforce", "null")
		c.refused(ctx, t, refusal{[]string{"plain"}, exitUnknown, []string{"namespace default does not admit the agent pod", "--agent-namespace"}})
	})
	t.Run("permission", func(t *testing.T) { c.refusePermissions(ctx, t) })
	t.Run("no ready node", func(t *testing.T) {
		c.unready(ctx, t)
		c.refused(ctx, t, refusal{[]string{"plain"}, exitUnknown, []string{"no node can be traced: none is ready", "kubectl get nodes"}})
		c.refused(ctx, t, refusal{[]string{"plain", "--node", "node1"}, exitUnknown, []string{"node1", "not ready"}})
	})
}

// refused runs what cannot be answered.
func (c *cluster) refused(ctx context.Context, t *testing.T, want refusal) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := c.run(ctx, want.args...)
	if err != nil {
		t.Fatal(err)
	}
	if r.code != want.code || r.stdout != "" {
		t.Errorf("exit code %d, want %d, and nothing on standard output:\n%v", r.code, want.code, r)
	}
	for _, s := range want.says {
		if !strings.Contains(r.stderr, s) {
			t.Errorf("standard error does not say %q:\n%s", s, r.stderr)
		}
	}
	lines := strings.Split(strings.TrimRight(r.stderr, "\n"), "\n")
	inOne := len(lines) == 1 && strings.Contains(lines[0], ": use ")
	inTwo := len(lines) == 2 && strings.HasPrefix(lines[1], "next:  ")
	if !strings.HasPrefix(lines[0], "error: ") || !inOne && !inTwo {
		t.Errorf("standard error is not a sentence and a next step:\n%s", r.stderr)
	}
	c.noAgents(ctx, t)
}

// makeUntranslatable makes the Services that no node translates.
func (c *cluster) makeUntranslatable(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, s := range []*corev1.Service{
		{ObjectMeta: metav1.ObjectMeta{Name: "headless"}, Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}},
		}},
		{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "elsewhere.example"}},
	} {
		if _, err := c.client.CoreV1().Services(namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// label sets a label of the namespace to a value in JSON; null removes it.
func (c *cluster) label(ctx context.Context, t *testing.T, key, value string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, value)
	if _, err := c.client.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// permissions are what the plugin needs, in the order in which it misses them.
var permissions = []struct {
	group, resource string
	verbs           []string
	// says is how the lack of it is said.
	says string
}{
	{"", "services", []string{"get"}, "no permission to get services in namespace default"},
	{"discovery.k8s.io", "endpointslices", []string{"list"}, "no permission to list endpointslices.discovery.k8s.io in namespace default"},
	{"", "nodes", []string{"list"}, "no permission to list nodes"},
	{"", "pods", []string{"create"}, "no permission to create pods in namespace default"},
	{"", "pods", []string{"delete"}, ""},
	{"", "pods", []string{"list", "watch"}, "no permission to"},
	{"", "pods/attach", []string{"create"}, "no permission to create pods/attach in namespace default"},
}

// refusePermissions gives a user the permissions one after the other: before it has all, the plugin names the next that
// is missing, and then it works.
func (c *cluster) refusePermissions(ctx context.Context, t *testing.T) {
	const user = "restricted"
	kubeconfig := c.user(ctx, t, user)
	args := []string{"plain", "--node", "node1", "--kubeconfig", kubeconfig}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}}
	roles := c.client.RbacV1().ClusterRoles()
	if _, err := roles.Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := c.client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: user}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range permissions {
		if p.says != "" {
			c.allowedSoFar(ctx, t, kubeconfig, role)
			c.refused(ctx, t, refusal{args, exitUnknown, []string{p.says, "kubectl auth can-i"}})
		}
		role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: []string{p.group}, Resources: []string{p.resource}, Verbs: p.verbs})
		if _, err := roles.Update(ctx, role, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.allowedSoFar(ctx, t, kubeconfig, role)
	r, err := c.run(ctx, args...)
	if err != nil || r.code != exitOK {
		t.Errorf("with all permissions: %v, %v", r, err)
	}
	c.noAgents(ctx, t)
}

// allowedSoFar waits until the API server lets the user do what the role's last rule says.
func (c *cluster) allowedSoFar(ctx context.Context, t *testing.T, kubeconfig string, role *rbacv1.ClusterRole) {
	t.Helper()
	if len(role.Rules) == 0 {
		return
	}
	last := role.Rules[len(role.Rules)-1]
	resource := last.Resources[0]
	args := []string{"auth", "can-i", last.Verbs[len(last.Verbs)-1]}
	if name, sub, ok := strings.Cut(resource, "/"); ok {
		args = append(args, name, "--subresource", sub)
	} else {
		args = append(args, strings.TrimSuffix(resource+"."+last.APIGroups[0], "."))
	}
	err := eventually(ctx, "wait for the permission to "+fmt.Sprint(last.Verbs)+" "+resource, func() (bool, error) {
		out, _ := c.Kubectl(ctx, append(args, "--kubeconfig", kubeconfig)...) // "no" is a failure
		return strings.HasPrefix(out, "yes"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// user makes a service account without any permission and returns a kubeconfig of its own.
func (c *cluster) user(ctx context.Context, t *testing.T, name string) string {
	t.Helper()
	accounts := c.client.CoreV1().ServiceAccounts(namespace)
	if _, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := accounts.CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := clientcmd.ResolveLocalPaths(config); err != nil {
		t.Fatal(err)
	}
	for who := range config.AuthInfos {
		config.AuthInfos[who] = &api.AuthInfo{Token: token.Status.Token}
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// unready makes every node not ready: the kubelets, which would say otherwise, are stopped.
func (c *cluster) unready(ctx context.Context, t *testing.T) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"status": corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "Test", Message: "the test stopped the kubelet",
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes() {
		if err := n.Stop(ctx, lab.Kubelet); err != nil {
			t.Fatal(err)
		}
		_, err := c.client.CoreV1().Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil {
			t.Fatal(err)
		}
	}
}
