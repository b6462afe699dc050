//go:build linux

package xt_test

import (
	"context"
	"errors"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt/xtlab"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

func TestAccountTellsQuota(t *testing.T) {
	xtlab.New(t)
	xtlab.AddAccount(t, "plain", 0)
	xtlab.AddAccount(t, "limited", 5)
	r := xt.New(nil)
	defer r.Close()
	if a, err := r.Account(context.Background(), "plain"); err != nil || a.HasQuota {
		t.Errorf("plain: %+v, %v", a, err)
	}
	if a, err := r.Account(context.Background(), "limited"); err != nil || !a.HasQuota || a.OverQuota {
		t.Errorf("limited: %+v, %v", a, err)
	}
	if _, err := r.Account(context.Background(), "none"); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
}
