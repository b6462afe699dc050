package render_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/visible"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

// TestNoFormatActsOnATerminal writes text that would, in every format, and reads the data back.
func TestNoFormatActsOnATerminal(t *testing.T) {
	evil := "\x1b]0;t\x07\u009b2J\u202eb\x7f<b>\u2028" + strings.Repeat("x", 10)
	a := &render.Answer{Model: &intent.Model{Namespace: "shop", Name: "web"}}
	a.Report.Findings = []diagnose.Finding{{Kind: diagnose.ForeignDrop, Severity: diagnose.Error, Sentence: evil, Fix: evil, Subject: evil, Evidence: []diagnose.Evidence{{Text: evil}}}}
	for _, f := range []render.Format{render.Human, render.Wide, render.JSON, render.YAML} {
		var b bytes.Buffer
		if err := render.Write(&b, a, f, false); err != nil {
			t.Fatal(f, err)
		}
		if flat := strings.ReplaceAll(b.String(), "\n", ""); visible.Text(flat) != flat {
			t.Errorf("%q: something that cannot be seen in %q", f, b.String())
		}
		var s render.ServiceTrace
		switch f {
		case render.JSON:
			if err := json.Unmarshal(b.Bytes(), &s); err != nil || s.Findings[0].Message != evil || s.Findings[0].Evidence[0].Text != evil {
				t.Errorf("JSON lost something: %v %+v", err, s.Findings)
			}
		case render.YAML:
			if err := yaml.Unmarshal(b.Bytes(), &s); err != nil || s.Findings[0].Message != strings.ReplaceAll(evil, "\u202e", "") {
				t.Errorf("YAML lost more than format characters: %v %+v", err, s.Findings)
			}
		}
	}
}
