// scenario DRIVER FILE...: runs scenario files on one driver ("sqlite" or "xattr") over the Go module, and prints their transcripts.
// The last line is "N passed, N failed, N skipped". Exit code 1: one failed; 2: wrong usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"imagecache"
)

// How a scenario ended; also the exit codes of its process.
const (
	passed  = 0
	failed  = 1
	skipped = 77
)

// A scenario that runs longer has failed.
const longest = 300 * time.Second

// The first argument of a scenario's own process: a crash or a hang fails one scenario, and its mounts end with it.
const ownProcess = "--one-scenario"

// A mount namespace belongs to a thread, so a scenario stays on the first one.
func init() { runtime.LockOSThread() }

func main() {
	drivers := map[string]imagecache.Driver{"sqlite": imagecache.SQLite, "xattr": imagecache.Xattr}
	if len(os.Args) == 5 && os.Args[1] == ownProcess {
		os.Exit(runScenario(drivers[os.Args[2]], os.Args[3], os.Args[4]))
	}
	if len(os.Args) < 2 || drivers[os.Args[1]].String() != os.Args[1] {
		fmt.Fprintln(os.Stderr, "usage: scenario sqlite|xattr FILE...")
		os.Exit(2)
	}
	counts := map[int]int{}
	for _, file := range os.Args[2:] {
		counts[runInProcess(os.Args[1], file)]++
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", counts[passed], counts[failed], counts[skipped])
	if counts[failed] > 0 {
		os.Exit(1)
	}
}

// nameOf is the file's name without its directory and ".scenario".
func nameOf(file string) string { return strings.TrimSuffix(filepath.Base(file), ".scenario") }

func runInProcess(driver, file string) int {
	root, err := os.MkdirTemp("", "scenario-")
	if err == nil {
		err = os.Mkdir(filepath.Join(root, "cache"), 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		os.Exit(2)
	}
	defer os.RemoveAll(root)
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	err = start(ctx, os.Geteuid() != 0, driver, file, root)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return passed
	case errors.As(err, &exit) && exit.ExitCode() == skipped:
		return skipped
	case !errors.As(err, &exit) || exit.ExitCode() != failed:
		fmt.Printf("FAILED %s (%s): its process: %v\n\n", nameOf(file), driver, err)
	}
	return failed
}

// start runs the scenario's process: of a user who may not mount in a user namespace where he may, if he can have one.
func start(ctx context.Context, inNamespace bool, driver, file, root string) error {
	command := exec.CommandContext(ctx, "/proc/self/exe", ownProcess, driver, file, root)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if inNamespace {
		command.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		}
	}
	if err := command.Start(); err != nil && inNamespace {
		return start(ctx, false, driver, file, root)
	} else if err != nil {
		return err
	}
	return command.Wait()
}
