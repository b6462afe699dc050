package render_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/proofs"
)

var update = flag.Bool("update", false, "rewrite docs/findings")

// TestPagesOfTheFindings holds docs/findings equal to the catalogue; -update rewrites it.
func TestPagesOfTheFindings(t *testing.T) {
	dir := filepath.Join("..", "..", "docs", "findings")
	want := map[string]string{"README.md": render.CatalogueIndex(diagnose.Families())}
	for _, k := range diagnose.Catalogue() {
		sample, err := os.ReadFile(filepath.Join(dir, "samples", k.ID+".txt"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		want[k.ID+".md"] = render.KindPage(k, string(sample))
	}
	if *update {
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pages {
		name := filepath.Base(path)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want[name] == "" {
			t.Errorf("%s belongs to no finding", path)
		} else if d := cmp.Diff(want[name], string(got)); d != "" {
			t.Errorf("%s is not what the catalogue says (go test ./plugin/render -update rewrites it):\n%s", path, d)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("docs/findings/%s is missing (go test ./plugin/render -update makes it)", name)
	}
	samples, err := filepath.Glob(filepath.Join(dir, "samples", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range samples {
		if _, ok := diagnose.Find(strings.TrimSuffix(filepath.Base(path), ".txt")); !ok {
			t.Errorf("%s belongs to no finding", path)
		}
	}
}

// TestTableOfTheFaults holds docs/faults.md equal to what the fault tests recorded; -update rewrites it.
func TestTableOfTheFaults(t *testing.T) {
	root := filepath.Join("..", "..")
	records, err := proofs.All(root)
	if err != nil {
		t.Fatal(err)
	}
	for id, list := range records {
		if _, ok := diagnose.Find(id); !ok {
			t.Errorf("there are records of %s, which is no finding", id)
		}
		for _, r := range list {
			if len(r.Alarms) > 0 {
				t.Errorf("%s: false alarms %v", r.Test, r.Alarms)
			}
		}
	}
	path := filepath.Join(root, "docs", "faults.md")
	want := proofs.Table(diagnose.Families(), records)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("%s is not what the tests recorded (go test ./plugin/render -update rewrites it):\n%s", path, d)
	}
}

func TestReferencesNameAThread(t *testing.T) {
	form := regexp.MustCompile(`^([A-Za-z0-9-]+/[A-Za-z0-9._-]+#[0-9]+|KEP-[0-9]+)$`)
	for _, k := range diagnose.Catalogue() {
		for _, r := range k.References {
			if !form.MatchString(r) {
				t.Errorf("%s: reference %q is no owner/repository#number", k.ID, r)
			}
		}
	}
}

func TestExplanationNamesEveryPart(t *testing.T) {
	for _, k := range diagnose.Catalogue() {
		var b bytes.Buffer
		if err := render.WriteKind(&b, k, false); err != nil {
			t.Fatal(err)
		}
		flat := strings.Join(strings.Fields(b.String()), " ")
		for _, part := range append([]string{k.ID, k.Means, k.Proven[1:], k.Fix[1:]}, k.References...) {
			part = strings.ReplaceAll(part, "#", "/issues/")
			part = strings.TrimPrefix(part, "KEP-")
			if !strings.Contains(flat, strings.Join(strings.Fields(part), " ")) {
				t.Errorf("%s: %q is not in\n%s", k.ID, part, b.String())
			}
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if len([]rune(line)) > 80 {
				t.Errorf("%s: a line of more than 80 columns: %s", k.ID, line)
			}
		}
	}
}
