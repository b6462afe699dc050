//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asFloor makes this test binary the program.
const asFloor = "FLOOR_TEST_AS_FLOOR"

func TestMain(m *testing.M) {
	if os.Getenv(asFloor) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// floor runs the program.
func floor(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asFloor+"=1")
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return out.String(), said.String(), err
}

// namespace moves the test's thread, and what it starts, into a network namespace of its own.
func namespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // and never unlock: the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, input string, command ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

func TestNonsenseEndsWithOne(t *testing.T) {
	namespace(t)
	for args, says := range map[string]string{
		"":                                "what is to be read?",
		"ipvs":                            `unknown kind "ipvs"`,
		"nft ip t c":                      "invalid syntax",
		"legacy absent":                   "table absent",
		"measure":                         "needs a file and a program",
		"measure /dev/null":               "needs a file and a program",
		"measure /dev/null nosuchprogram": "nosuchprogram",
		"measure /dev/null false":         "exit status 1",
	} {
		out, said, err := floor(t, strings.Fields(args)...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || out != "" || !strings.HasPrefix(said, "floor: ") || !strings.Contains(said, says) {
			t.Errorf("%s: %v, %q, %q", args, err, out, said)
		}
	}
}

func TestReadsWhatIsThere(t *testing.T) {
	namespace(t)
	load(t, "table ip t { chain a { counter; }; chain b { type filter hook input priority 0; }; }", "nft", "-f", "-")
	load(t, "*nat\n-A OUTPUT -j RETURN\nCOMMIT\n", "iptables-legacy-restore")
	for _, args := range []string{"nft 2 t a", "nft 2 t a 2 t b 2", "nft 2", "legacy nat", "nft"} {
		if out, said, err := floor(t, strings.Fields(args)...); err != nil || out != "" || said != "" {
			t.Errorf("%s: %v, %q, %q", args, err, out, said)
		}
	}
}

// The floor is a floor only if it reads all of the answer.
func TestDumpIsReadToItsEnd(t *testing.T) {
	namespace(t)
	var chain strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&chain, "ip saddr 10.0.%d.%d counter\n", i/256, i%256)
	}
	load(t, "table ip t { chain c {\n"+chain.String()+"}\n}\n", "nft", "-f", "-")
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	attrs := nameAttr(nameAttr(nil, unix.NFTA_RULE_TABLE, "t"), unix.NFTA_RULE_CHAIN, "c")
	for range 2 { // a second dump on the socket is refused while the first goes on (EBUSY)
		if err := dump(fd, unix.NFT_MSG_GETRULE, unix.NFPROTO_IPV4, attrs, buf); err != nil {
			t.Fatal(err)
		}
		if n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%d bytes of the answer were not read, %v", n, err)
		}
	}
}

func TestLegacyTableHasTheSizeOfItsRules(t *testing.T) {
	namespace(t)
	load(t, "*filter\nCOMMIT\n", "iptables-legacy-restore")
	empty, err := tableSize("filter")
	if err != nil {
		t.Fatal(err)
	}
	load(t, "*filter\n"+strings.Repeat("-A INPUT -s 10.0.0.1 -j DROP\n", 100)+"COMMIT\n", "iptables-legacy-restore", "--noflush")
	full, err := tableSize("filter")
	// struct ipt_entry 112 bytes and a standard target of 40
	if err != nil || full-empty != 100*152 {
		t.Errorf("%d bytes, then %d, %v", empty, full, err)
	}
	if err := readTable("filter"); err != nil {
		t.Error(err)
	}
}

func TestMeasureTellsWhatAProgramTook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "output")
	out, said, err := floor(t, "measure", file, "sh", "-c", "echo answer; sleep 0.2")
	if err != nil || said != "" {
		t.Fatalf("%v, %q", err, said)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "answer\n" {
		t.Errorf("the output is %q, %v", b, err)
	}
	var wall, cpu, memory int64
	if _, err := fmt.Sscanf(out, "%d %d %d\n", &wall, &cpu, &memory); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	// it slept: time passed that is not the processor's; and no program is smaller than 100 KiB
	if wall < 200*time.Millisecond.Nanoseconds() || cpu <= 0 || cpu >= wall || memory < 100<<10 {
		t.Errorf("%d ns, %d ns of processor time, %d bytes", wall, cpu, memory)
	}
}

func TestMeasuredProgramIsNotInterrupted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "output")
	// the program interrupts the floor, which is to wait for its end all the same
	if out, said, err := floor(t, "measure", file, "sh", "-c", fmt.Sprintf("kill -%d $PPID; echo done", syscall.SIGINT)); err != nil || out == "" {
		t.Errorf("%v, %q, %q", err, out, said)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "done\n" {
		t.Errorf("the output is %q, %v", b, err)
	}
}
