package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// Conversation asks one agent, over any pair of streams. Several goroutines may ask at once: requests are written one
// after the other, and answers find their asker by ID.
//
// The plugin speaks first: what a container writes before somebody is attached may be lost, so the agent says Hello only
// when the first request has come.
type Conversation struct {
	w io.Writer

	writing sync.Mutex // held while a frame is written

	mu      sync.Mutex
	next    int
	pending map[int]chan *wire.Answer
	hello   *wire.Hello
	err     error         // why the conversation ended
	ended   chan struct{} // closed when err is set
}

// errEnded is the end of a conversation by the other side.
var errEnded = errors.New("the agent closed the conversation")

// Converse begins a conversation: frames are written to w and read from r until r ends.
func Converse(r io.Reader, w io.Writer) *Conversation {
	c := &Conversation{w: w, pending: map[int]chan *wire.Answer{}, ended: make(chan struct{})}
	go c.read(r)
	return c
}

// Hello is what the agent said about itself; nil before its first answer.
func (c *Conversation) Hello() *wire.Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hello
}

// Ask sends one request and waits for its answer; the ID is the conversation's to choose.
func (c *Conversation) Ask(ctx context.Context, r wire.Request) (*wire.Answer, error) {
	ch := make(chan *wire.Answer, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	r.ID = c.next
	c.next++
	c.pending[r.ID] = ch
	c.mu.Unlock()

	if err := c.write(r); err != nil {
		return nil, c.cause(err)
	}
	select {
	case a := <-ch:
		return a, nil
	case <-c.ended:
		select {
		case a := <-ch: // it came just before the end
			return a, nil
		default:
			return nil, c.cause(errEnded)
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Conversation) write(r wire.Request) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return wire.Write(c.w, r)
}

func (c *Conversation) read(r io.Reader) {
	var h wire.Hello
	if err := wire.Read(r, &h); err != nil {
		c.End(ended(err))
		return
	}
	if h.Version != wire.Version {
		c.End(fmt.Errorf("the agent speaks version %d of the conversation and this plugin version %d: use an agent image of the plugin's version", h.Version, wire.Version))
		return
	}
	c.mu.Lock()
	c.hello = &h
	c.mu.Unlock()
	for {
		a := new(wire.Answer)
		if err := wire.Read(r, a); err != nil {
			c.End(ended(err))
			return
		}
		c.mu.Lock()
		ch := c.pending[a.ID]
		delete(c.pending, a.ID)
		c.mu.Unlock()
		if ch == nil {
			c.End(fmt.Errorf("the agent answered request %d, which was not asked", a.ID))
			return
		}
		ch <- a
	}
}

// End ends the conversation for a reason; only the first reason counts. Everybody who waits gets it.
func (c *Conversation) End(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.ended)
	}
}

func (c *Conversation) cause(otherwise error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	return otherwise
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errEnded
	}
	return err
}
