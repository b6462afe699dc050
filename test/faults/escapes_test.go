package faults

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

// evil sets a terminal's title, clears its screen with a character of eight bits, turns the direction of writing, and is HTML.
const evil = "\x1b]0;owned\x07\x1b[2J\u009b31m\u202e<script>alert(1)</script>\x7f"

// evilText is what is left of it.
const evilText = "]0;owned[2J31m<script>alert(1)</script>"

// escapes puts it where a cluster lets somebody put text: the comment of a rule that drops, and a Service's annotation.
// Nothing of what the plugin or the agent writes may act on a terminal.
func escapes(t *testing.T, b *bed) {
	ctx, cancel := contextFor(t, 60*time.Second)
	defer cancel()
	n := b.Node(1)
	rule := "FORWARD -d 10.244.0.0/16 -p tcp --dport 8080 -m comment --comment '" + evil + "' -j DROP"
	cause := sequence(shell("iptables -I "+rule), objects("evil", both(balancer("10.251.0.66"), withoutNodePorts, func(s *corev1.Service) {
		s.Annotations = map[string]string{"example.com/proxy-protocol": evil + strings.Repeat("x", 100_000)}
	})))
	defer func() {
		if err := sequence(shell("iptables -D "+rule), remove("evil"), forget)(ctx, b, n); err != nil {
			t.Error(err)
		}
		b.awaitHealthy(t, ctx, "")
	}()
	if err := cause(ctx, b, n); err != nil {
		t.Error(err)
		return
	}
	a, err := b.diagnose(ctx, "evil")
	if err != nil {
		t.Error(err)
		return
	}
	if got := unique(loud(a.Report)); !slices.Equal(got, []string{"foreign-drop", "load-balancer-bypassed"}) {
		t.Errorf("found %v:\n%s", got, text(a.Report.Findings))
	}
	for _, format := range []render.Format{render.Human, render.Wide, render.JSON, render.YAML} {
		var out bytes.Buffer
		if err := render.Write(&out, a, format, false); err != nil {
			t.Error(err)
		}
		harmless(t, string(format), out.String())
		if format == render.Wide && strings.Count(out.String(), evilText) < 2 {
			t.Errorf("%q is not there twice:\n%s", evilText, out.String())
		}
		if format == render.JSON {
			keeps(t, out.Bytes())
		}
	}
	for _, f := range []string{"text", "json"} {
		out, err := n.Run(ctx, b.binary, "packet", "--from", b.clientIP(ctx), "--to", clusterIP.String(), "--proto", "tcp", "-o", f)
		if err != nil {
			t.Error(err)
		}
		harmless(t, "svctrace-agent packet -o "+f, out)
		if !strings.Contains(out, "owned") {
			t.Errorf("the rule is not in what the agent writes:\n%s", out)
		}
	}
}

// harmless requires that no character of a text acts on a terminal or misleads who reads it.
func harmless(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			t.Errorf("%s: character %U at %d: %q", what, r, i, text[max(0, i-40):min(len(text), i+40)])
			return
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 40_000 {
			t.Errorf("%s: a line of %d bytes", what, len(line))
		}
	}
}

// keeps requires that JSON has lost nothing of the comment: it is data.
func keeps(t *testing.T, b []byte) {
	t.Helper()
	var s render.ServiceTrace
	if err := json.Unmarshal(b, &s); err != nil {
		t.Error(err)
		return
	}
	for _, f := range s.Findings {
		for _, e := range f.Evidence {
			if e.Rule != nil && strings.Contains(e.Rule.Text, "\x1b]0;owned") {
				return
			}
		}
	}
	t.Error("the comment is not in the data as it is")
}
