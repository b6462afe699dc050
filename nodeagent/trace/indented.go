package trace

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
)

// Indented returns the trace as json.MarshalIndent writes it, indented by two blanks: the same bytes.
//
// It is written by hand because a process that answers once pays for encoding/json's look at all the types, which takes longer
// than most of what the process does. What few traces have is left to encoding/json.
func (t *Trace) Indented() ([]byte, error) {
	w := &writer{b: make([]byte, 0, 1024+512*(len(t.Hops)+len(t.Outcomes)))}
	w.object(func() {
		w.text("apiVersion", t.APIVersion)
		w.text("kind", t.Kind)
		w.key("packet")
		w.packet(&t.Packet)
		w.key("hops")
		list(w, t.Hops, w.hop)
		w.key("outcomes")
		list(w, t.Outcomes, w.outcome)
		w.key("reads")
		w.object(func() {
			w.signed("messages", int64(t.Reads.Messages))
			w.signed("bytes", t.Reads.Bytes)
			w.some("hooks", string(t.Reads.Hooks))
		})
	})
	return w.b, w.err
}

func (w *writer) packet(p *Packet) {
	w.object(func() {
		w.text("protocol", p.Protocol)
		w.end("source", p.Source)
		w.end("destination", p.Destination)
		w.some("in", p.In)
		w.text("mark", p.Mark.String())
		if p.Owner != nil {
			w.rare("owner", p.Owner)
		}
	})
}

func (w *writer) hop(h *Hop) {
	w.object(func() {
		w.some("node", h.Node)
		w.some("namespace", h.Namespace)
		w.text("hook", h.Hook)
		w.some("table", h.Table)
		w.some("chain", h.Chain)
		if r := h.Rule; r != nil {
			w.key("rule")
			w.object(func() {
				w.number("handle", r.Handle)
				w.text("text", r.Text)
				w.some("comment", r.Comment)
				if r.Packets != nil {
					w.number("packets", *r.Packets)
				}
				if r.Bytes != nil {
					w.number("bytes", *r.Bytes)
				}
			})
		}
		w.text("action", h.Action)
		w.some("says", h.Says)
		if h.MTU != 0 {
			w.signed("mtu", int64(h.MTU))
		}
		if h.Tunnel != nil {
			w.rare("tunnel", h.Tunnel)
		}
	})
}

func (w *writer) outcome(o *Outcome) {
	w.object(func() {
		w.text("verdict", string(o.Verdict))
		if o.Probability != nil {
			w.text("probability", o.Probability.String())
		}
		w.end("destination", o.Destination)
		w.end("source", o.Source)
		w.key("masqueraded")
		w.b = strconv.AppendBool(w.b, o.Masqueraded)
		w.some("rejectWith", o.RejectWith)
		w.some("out", o.Out)
		if o.NextHop != (netip.Addr{}) {
			w.text("nextHop", o.NextHop.String())
		}
		if o.Mark != 0 {
			w.text("mark", o.Mark.String())
		}
		w.some("possible", string(o.Possible))
		w.some("reason", o.Reason)
		w.key("conditions")
		list(w, o.Conditions, func(s *string) { w.quoted(*s) })
		if len(o.Unknown) > 0 {
			w.rare("unknown", o.Unknown)
		}
		if o.Tunnel != nil {
			w.rare("tunnel", o.Tunnel)
		}
		if len(o.Tracked) > 0 {
			w.key("tracked")
			list(w, o.Tracked, w.tracked)
		}
		if o.Listener != nil {
			w.rare("listener", o.Listener)
		}
		w.key("path")
		list(w, o.Path, func(i *int) { w.b = strconv.AppendInt(w.b, int64(*i), 10) })
	})
}

func (w *writer) tracked(t *Tracked) {
	w.object(func() {
		w.some("node", t.Node)
		w.text("namespace", t.Namespace)
		w.some("key", t.Key)
		w.text("protocol", t.Protocol)
		w.end("source", t.Source)
		w.end("destination", t.Destination)
		w.end("replySource", t.ReplySource)
		w.end("replyDestination", t.ReplyDestination)
		if t.Mark != 0 {
			w.text("mark", t.Mark.String())
		}
		if t.Zone != 0 {
			w.number("zone", uint64(t.Zone))
		}
		if t.ReplyZone != 0 {
			w.number("replyZone", uint64(t.ReplyZone))
		}
	})
}

// writer writes indented JSON.
type writer struct {
	b     []byte
	depth int
	// empty tells that the object or list that is being written has nothing in it yet.
	empty bool
	err   error
}

const indent = "  "

// line begins the next key or element on a line of its own.
func (w *writer) line() {
	if !w.empty {
		w.b = append(w.b, ',')
	}
	w.empty = false
	w.newline()
}

func (w *writer) newline() {
	w.b = append(w.b, '\n')
	for range w.depth {
		w.b = append(w.b, indent...)
	}
}

// inside writes what is between brackets.
func (w *writer) inside(brackets string, f func()) {
	w.b = append(w.b, brackets[0])
	w.depth, w.empty = w.depth+1, true
	f()
	w.depth--
	if !w.empty {
		w.newline()
	}
	w.empty = false
	w.b = append(w.b, brackets[1])
}

func (w *writer) object(f func()) { w.inside("{}", f) }

// list writes a list; one that is nil is null.
func list[T any](w *writer, items []T, each func(*T)) {
	if items == nil {
		w.b = append(w.b, "null"...)
		return
	}
	w.inside("[]", func() {
		for i := range items {
			w.line()
			each(&items[i])
		}
	})
}

func (w *writer) key(name string) {
	w.line()
	w.quoted(name)
	w.b = append(w.b, ": "...)
}

func (w *writer) text(key, s string) {
	w.key(key)
	w.quoted(s)
}

// some writes a text that there is.
func (w *writer) some(key, s string) {
	if s != "" {
		w.text(key, s)
	}
}

func (w *writer) number(key string, n uint64) {
	w.key(key)
	w.b = strconv.AppendUint(w.b, n, 10)
}

func (w *writer) signed(key string, n int64) {
	w.key(key)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *writer) end(key string, a netip.AddrPort) {
	b, err := a.MarshalText()
	if err != nil {
		w.err = err
	}
	w.text(key, string(b))
}

// quoted writes a string. Those with anything to escape are left to encoding/json.
func (w *writer) quoted(s string) {
	if strings.ContainsFunc(s, escaped) {
		w.encoded(s)
		return
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, s...)
	w.b = append(w.b, '"')
}

func escaped(r rune) bool {
	return r < ' ' || r > '~' || r == '"' || r == '\\' || r == '<' || r == '>' || r == '&'
}

func (w *writer) rare(key string, v any) {
	w.key(key)
	w.encoded(v)
}

func (w *writer) encoded(v any) {
	b, err := json.MarshalIndent(v, strings.Repeat(indent, w.depth), indent)
	if err != nil {
		w.err = err
	}
	w.b = append(w.b, b...)
}
