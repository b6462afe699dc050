package lab

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// helperName, when set, makes this test binary start a lab of that name and wait to be killed.
const helperName = "LAB_TEST_HELPER_NAME"

func TestMain(m *testing.M) {
	if name := os.Getenv(helperName); name != "" {
		if err := helper(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func helper(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	l, err := Start(ctx, Options{Name: name, Nodes: 1})
	if err != nil {
		return err
	}
	if _, err := l.ClientPod(ctx, "client", l.Node(1)); err != nil {
		return err
	}
	fmt.Println("up")
	<-ctx.Done() // long before that it has been killed
	return nil
}
