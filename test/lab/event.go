package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// event is one line that init writes to whoever starts the lab.
type event struct {
	// Step is what has just been completed.
	Step string `json:",omitempty"`
	// After is how long after init's start that was.
	After time.Duration
	// Up says that the lab is ready; the last line.
	Up bool `json:",omitempty"`
	// Error is why the lab will not be ready; the last line.
	Error string `json:",omitempty"`
}

// events writes events; that nobody reads them is no error.
type events struct {
	w     io.Writer
	start time.Time
}

func (e events) send(ev event) {
	ev.After = time.Since(e.start)
	b, err := json.Marshal(ev)
	if err != nil {
		return
	}
	_, _ = e.w.Write(append(b, '\n'))
}

func (e events) step(format string, args ...any) {
	e.send(event{Step: fmt.Sprintf(format, args...)})
}
