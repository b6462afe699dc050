package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFramesComeBackAsSent(t *testing.T) {
	var b bytes.Buffer
	sent := []Request{{ID: 1, Describe: &DescribeRequest{}}, {ID: 2, Walk: &WalkRequest{Protocol: "tcp", In: "eth0"}}}
	for _, r := range sent {
		if err := Write(&b, r); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range sent {
		var got Request
		if err := Read(&b, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want.ID, got.ID); d != "" || (got.Walk == nil) != (want.Walk == nil) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if err := Read(&b, new(Request)); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v, want EOF", err)
	}
}

func TestReadRefusesWhatIsNoFrame(t *testing.T) {
	for name, in := range map[string]string{
		"text instead of a frame": "panic: something",
		"a cut length":            "\x00\x00",
		"a cut frame":             "\x00\x00\x00\x10{}",
		"no JSON":                 "\x00\x00\x00\x02xx",
	} {
		err := Read(strings.NewReader(in), new(Answer))
		if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
