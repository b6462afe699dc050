package diagnose

import (
	"slices"
	"strings"
)

// Kind is one entry of the catalogue: what a finding of an ID is, always. The checks, kubectl svctrace explain and the
// pages under docs/findings/ share it.
type Kind struct {
	// ID is stable: scripts may match it.
	ID       string
	Severity Severity
	// Title says it in a few words, for tables.
	Title string
	// Means says what is wrong, and what a client notices.
	Means string
	// Proven says what is compared or read to know it.
	Proven string
	// Fix is the next step.
	Fix string
	// Explains are the IDs of findings that follow from this one: where both are found they are folded under it.
	Explains []string
	// References are threads of users who met it, as owner/repository#number.
	References []string
}

// Family is a group of kinds that are found by the same checks; each has a file of its own.
type Family struct {
	// Name is its heading in the documentation.
	Name  string
	Kinds []Kind
	// check looks for the kinds of the family; nil where they are found while a walk is compared.
	check func(*scene, *ledger)
}

// Catalogue lists every kind of finding, in the order of the documentation.
func Catalogue() []Kind {
	var out []Kind
	for _, f := range Families() {
		out = append(out, f.Kinds...)
	}
	return out
}

// Find returns the kind of an ID, in whatever case it is written.
func Find(id string) (Kind, bool) {
	kinds := Catalogue()
	i := slices.IndexFunc(kinds, func(k Kind) bool { return strings.EqualFold(k.ID, id) })
	if i < 0 {
		return Kind{}, false
	}
	return kinds[i], true
}
