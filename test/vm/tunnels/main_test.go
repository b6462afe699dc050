//go:build linux

package tunnels

import (
	"os"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/vm"
)

func TestMain(m *testing.M) {
	os.Exit(vm.Main(m, vm.Options{Modules: []string{"br_netfilter"}, Timeout: 15 * time.Minute}))
}
