// Real faults: small disks and read-only directories, in a mount namespace of the scenario's process. A scenario that may not mount
// is skipped with that reason.

package main

import (
	"os"
	"syscall"
)

const (
	mayNotMount      = "mounting is not permitted here"
	noUserAttributes = "no user attributes on this file system"
)

// hasUserAttributes leaves the attribute: the directory is the scenario's own.
func hasUserAttributes(directory string) bool {
	return syscall.Setxattr(directory, "user.scenario", []byte("1"), 0) == nil &&
		syscall.Removexattr(directory, "user.scenario") == nil
}

// enterNamespace makes later mounts private to this thread, once.
func (s *scenario) enterNamespace() error {
	if s.inNamespace {
		return nil
	}
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return err
	}
	if err := syscall.Mount("none", "/", "none", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	s.inNamespace = true
	return nil
}

// mounted skips the scenario if mounting is not permitted.
func (s *scenario) mounted(err error) string {
	if err == syscall.EPERM {
		s.skipped = mayNotMount
		return ""
	}
	return s.reportSystem(err)
}

// mountDisk mounts an empty file system over the scenario's directory, and creates the cache's directory on it.
func (s *scenario) mountDisk(kind, options string) string {
	err := s.enterNamespace()
	if err == nil {
		err = syscall.Mount("none", s.root, kind, syscall.MS_NOSUID|syscall.MS_NODEV, options)
	}
	if err != nil {
		return s.mounted(err)
	}
	return s.reportSystem(os.Mkdir(s.pathOf(""), 0o755))
}

func disk(s *scenario, words []argument) string {
	inodes := "0" // no limit
	if len(words) > 1 {
		inodes = words[1].text
	}
	return s.mountDisk("tmpfs", "mode=0755,size="+words[0].text+",nr_inodes="+inodes)
}

func readOnly(s *scenario, words []argument) string {
	path := words[0].text
	err := s.enterNamespace()
	if err == nil {
		err = syscall.Mount(path, path, "none", syscall.MS_BIND, "")
	}
	if err == nil {
		const flags = syscall.MS_REMOUNT | syscall.MS_BIND | syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV
		err = syscall.Mount("none", path, "none", flags, "")
	}
	return s.mounted(err)
}

var diskOperations = map[string]operation{
	"disk":                    {"t?t", disk},
	"disk_without_attributes": {"", func(s *scenario, _ []argument) string { return s.mountDisk("ramfs", "mode=0755") }},
	"read_only":               {"p", readOnly},
	"writable": {"p", func(s *scenario, words []argument) string {
		return s.reportSystem(syscall.Unmount(words[0].text, 0))
	}},
	"needs_user_attributes": {"", func(s *scenario, _ []argument) string {
		if !hasUserAttributes(s.root) {
			s.skipped = noUserAttributes
		}
		return "OK"
	}},
}
