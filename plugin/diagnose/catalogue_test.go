package diagnose_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
)

// kindsInCode reads the package's own code: which variables are kinds, by their IDs, and which of them some code raises:
// it uses the variable as a value, other than where the families list their kinds.
func kindsInCode(t *testing.T) (ids map[string]string, raised map[string]bool) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	fset := token.NewFileSet()
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	ids, raised = map[string]string{}, map[string]bool{}
	isKind := func(e ast.Expr) bool { i, ok := e.(*ast.Ident); return ok && i.Name == "Kind" }
	literals := 0
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if c, ok := valueOf(n).(*ast.CompositeLit); ok && isKind(c.Type) {
					ids[n.Names[0].Name] = idOf(t, c)
				}
			case *ast.CompositeLit:
				if isKind(n.Type) && len(n.Elts) > 0 {
					literals++
				}
			}
			return true
		})
	}
	if literals != len(ids) {
		t.Errorf("%d kinds are written and %d variables hold one: a kind that is no variable is in no catalogue", literals, len(ids))
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if a, ok := n.Type.(*ast.ArrayType); ok && isKind(a.Elt) {
					return false // a family's list
				}
			case *ast.SelectorExpr:
				return false // its ID, to compare with
			case *ast.Ident:
				raised[n.Name] = raised[n.Name] || ids[n.Name] != "" && n.Obj == nil || n.Obj != nil && n.Obj.Decl != nil && !declares(n)
			}
			return true
		})
	}
	return ids, raised
}

// declares reports whether an identifier is the name that its own declaration gives.
func declares(n *ast.Ident) bool {
	spec, ok := n.Obj.Decl.(*ast.ValueSpec)
	return ok && spec.Names[0] == n
}

func valueOf(s *ast.ValueSpec) ast.Expr {
	if len(s.Values) != 1 || len(s.Names) != 1 {
		return nil
	}
	return s.Values[0]
}

func idOf(t *testing.T, c *ast.CompositeLit) string {
	t.Helper()
	for _, e := range c.Elts {
		kv := e.(*ast.KeyValueExpr)
		if k, ok := kv.Key.(*ast.Ident); ok && k.Name == "ID" {
			id, err := strconv.Unquote(kv.Value.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
	}
	t.Error("a kind without an ID")
	return ""
}

// TestTheCatalogueIsWhatTheCodeRaises: no finding is raised that is not in the catalogue, and none is in it that no code
// raises.
func TestTheCatalogueIsWhatTheCodeRaises(t *testing.T) {
	ids, raised := kindsInCode(t)
	listed := map[string]int{}
	for _, k := range diagnose.Catalogue() {
		listed[k.ID]++
	}
	for name, id := range ids {
		if listed[id] != 1 {
			t.Errorf("%s is %d times in the catalogue", id, listed[id])
		}
		if !raised[name] {
			t.Errorf("no code raises %s", id)
		}
		delete(listed, id)
	}
	for id := range listed {
		t.Errorf("the catalogue has %s, which is no variable of the package", id)
	}
	if len(ids) < 60 {
		t.Errorf("%d kinds, want at least 60", len(ids))
	}
}

func TestKindsExplainKindsOfTheCatalogue(t *testing.T) {
	form := regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)+$|^undetermined$`)
	for _, k := range diagnose.Catalogue() {
		if !form.MatchString(k.ID) {
			t.Errorf("%q is not made of words", k.ID)
		}
		for _, id := range k.Explains {
			if found, ok := diagnose.Find(id); !ok || found.ID != id || id == k.ID {
				t.Errorf("%s explains %q, which is no other finding", k.ID, id)
			}
		}
	}
}
