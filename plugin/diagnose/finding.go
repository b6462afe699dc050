package diagnose

import (
	"cmp"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// Finding is a named difference or fault, with what proves it and what to do.
type Finding struct {
	Kind
	// Severity may differ from the kind's where the kind says so.
	Severity Severity
	// Nodes are where the fault is, in the order of the walks; none when it is the API's.
	Nodes []string
	// met are the nodes whose clients meet it, each with the place; the zero place is every one.
	met []meeting
	// Subject is what it is about: an endpoint, a flow; it keeps findings of one kind apart.
	Subject string
	// Sentence says it in plain words.
	Sentence string
	// Places are the access paths and clients it was seen with.
	Places []Place
	// Evidence are the rules, flows and conditions that prove it.
	Evidence []Evidence
	// About limits what the finding explains to findings of these subjects; nil does not limit it.
	About []string
	// Fix is the next step for this very case, or the kind's.
	Fix string
	// Consequences are findings that this one explains.
	Consequences []Finding
}

// meeting is where a finding was seen: from clients on a node, "" for all of them, at a place.
type meeting struct {
	node  string
	place Place
}

// anywhere is the one place that a finding without places has.
var anywhere = []Place{{}}

// Place is an access path as used by a kind of client.
type Place struct {
	Path   intent.AccessPath
	Client intent.ClientKind
}

// draft is a finding of one walk, before findings of the same kind and subject are made one.
type draft struct {
	kind     Kind
	severity Severity
	// on is the node that the fault is on, where that is not the client's.
	on       string
	subject  string
	sentence string
	evidence []Evidence
	// about is Finding.About.
	about []string
	// fix is what to do in this very case, where more can be said than the catalogue does.
	fix string
}

// ledger collects drafts into findings.
type ledger struct {
	findings []*Finding
	at       map[string]*Finding
}

// add records a draft; findings of the same kind and subject become one, with several nodes and places.
func (l *ledger) add(node string, d draft, places ...Place) *Finding {
	return l.addSeen(node, node, d, places...)
}

// addSeen records a draft of a fault on one node that clients on another one meet.
func (l *ledger) addSeen(node, client string, d draft, places ...Place) *Finding {
	d.bound()
	key := d.kind.ID + "\x00" + d.subject
	if l.at == nil {
		l.at = map[string]*Finding{}
	}
	f := l.at[key]
	if f == nil {
		f = &Finding{Kind: d.kind, Severity: cmp.Or(d.severity, d.kind.Severity), Subject: d.subject, Sentence: d.sentence, About: d.about,
			Fix: cmp.Or(d.fix, d.kind.Fix)}
		l.at[key] = f
		l.findings = append(l.findings, f)
	}
	if severity := cmp.Or(d.severity, d.kind.Severity); severity.rank() > f.Severity.rank() { // what is worse elsewhere leads
		f.Severity, f.Sentence = severity, d.sentence
	}
	if node != "" && !slices.Contains(f.Nodes, node) {
		f.Nodes = append(f.Nodes, node)
	}
	for _, p := range append(places[:len(places):len(places)], anywhere[:max(0, 1-len(places))]...) {
		if m := (meeting{client, p}); !slices.Contains(f.met, m) {
			f.met = append(f.met, m)
		}
	}
	for _, p := range places {
		if !slices.Contains(f.Places, p) {
			f.Places = append(f.Places, p)
		}
	}
	for _, e := range d.evidence {
		i := slices.IndexFunc(f.Evidence, func(o Evidence) bool { return o.Text == e.Text })
		if i < 0 && len(f.Evidence) < maxEvidence {
			i, f.Evidence = len(f.Evidence), append(f.Evidence, e)
		}
		if i >= 0 && node != "" && !slices.Contains(f.Evidence[i].Nodes, node) {
			f.Evidence[i].Nodes = append(slices.Clip(f.Evidence[i].Nodes), node)
		}
	}
	return f
}

// Bounds of texts in characters: names, messages and annotations of the cluster go into them, which may be long.
const (
	maxSentence = 800
	maxText     = 2000
)

// bound shortens what is too long.
func (d *draft) bound() {
	d.sentence, d.fix = shortened(d.sentence, maxSentence), shortened(d.fix, maxSentence)
	d.evidence = slices.Clone(d.evidence)
	for i := range d.evidence {
		e := &d.evidence[i]
		e.Text = shortened(e.Text, maxText)
		if e.Object != nil && len(e.Object.Value) > maxText {
			o := *e.Object
			o.Value = shortened(o.Value, maxText)
			e.Object = &o
		}
	}
}

func shortened(s string, most int) string {
	if len(s) <= most {
		return s
	}
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}

// maxEvidence bounds the evidence of one finding: it is a proof, not a dump.
const maxEvidence = 8

// sorted returns the findings, worst first, then by kind and subject.
func (l *ledger) sorted() []Finding {
	order := map[string]int{}
	for i, k := range Catalogue() {
		order[k.ID] = i
	}
	out := make([]Finding, 0, len(l.findings))
	for _, f := range l.findings {
		out = append(out, *f)
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(b.Severity.rank()-a.Severity.rank(), order[a.ID]-order[b.ID], strings.Compare(a.Subject, b.Subject))
	})
	return out
}
