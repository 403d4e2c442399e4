// Operations on files and directories that bypass the library.

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// missingOrFailed is the result after a failed system call.
func (s *scenario) missingOrFailed(err error, missing error) string {
	s.detail = err.Error()
	if errors.Is(err, missing) {
		return "absent"
	}
	return "FAILED"
}

// makeDead creates the incomplete file of a dead writer, which has the sticky bit.
func makeDead(s *scenario, words []argument) string {
	err := os.WriteFile(words[0].text, words[1].data, 0o644)
	if err == nil {
		err = os.Chmod(words[0].text, 0o644|os.ModeSticky)
	}
	return s.reportSystem(err)
}

// useUpInodes creates empty files 0, 1, 2, ... until the disk has no free inode.
func useUpInodes(s *scenario, words []argument) string {
	for number := 0; number < 100000; number++ {
		file, err := os.OpenFile(filepath.Join(words[0].text, strconv.Itoa(number)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, syscall.ENOSPC) {
			return "OK"
		} else if err != nil {
			return s.reportSystem(err)
		}
		file.Close()
	}
	return s.reportSystem(errors.New("the disk has more than 100,000 free inodes"))
}

// age sets access and modification time to N seconds ago. It does not follow a symbolic link, as os.Chtimes does.
func age(s *scenario, words []argument) string {
	then := syscall.NsecToTimespec(time.Now().UnixNano())
	then.Sec -= int64(words[1].number)
	times := [2]syscall.Timespec{then, then}
	path, err := syscall.BytePtrFromString(words[0].text)
	if err != nil {
		return s.reportSystem(err)
	}
	atCwd, noFollow := -100, uintptr(0x100) // AT_FDCWD, AT_SYMLINK_NOFOLLOW
	_, _, errno := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(atCwd), uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&times)), noFollow, 0, 0)
	if errno != 0 {
		return s.reportSystem(errno)
	}
	return "OK"
}

func look(s *scenario, words []argument) string {
	info, err := os.Lstat(words[0].text)
	if err != nil {
		return s.missingOrFailed(err, fs.ErrNotExist)
	}
	switch info.Mode().Type() {
	case 0:
		return fmt.Sprintf("file %d bytes", info.Size())
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "symlink"
	case fs.ModeNamedPipe:
		return "fifo"
	}
	return "other"
}

func contents(s *scenario, words []argument) string {
	data, err := os.ReadFile(words[0].text)
	if err != nil {
		return s.missingOrFailed(err, fs.ErrNotExist)
	}
	return "OK " + fingerprint(data)
}

func listDirectory(s *scenario, words []argument) string {
	entries, err := os.ReadDir(words[0].text) // in the order of the names' bytes
	if err != nil {
		return s.missingOrFailed(err, fs.ErrNotExist)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, escape(entry.Name()))
	}
	return list(names)
}

// attribute tests whether a file has an extended attribute and, with a third word, whether its value contains it.
func attribute(s *scenario, words []argument) string {
	value := make([]byte, 4096)
	n, err := syscall.Getxattr(words[0].text, words[1].text, value)
	if err != nil {
		return s.missingOrFailed(err, syscall.ENODATA)
	}
	s.detail = string(value[:n])
	switch {
	case len(words) < 3:
		return "present"
	case strings.Contains(s.detail, words[2].text):
		return "contains"
	}
	return "lacks"
}

var fileOperations = map[string]operation{
	"make_file": {"pd", func(s *scenario, words []argument) string {
		return s.reportSystem(os.WriteFile(words[0].text, words[1].data, 0o644))
	}},
	"make_dead": {"pd", makeDead},
	"make_directory": {"p", func(s *scenario, words []argument) string {
		return s.reportSystem(os.Mkdir(words[0].text, 0o755))
	}},
	"make_fifo": {"p", func(s *scenario, words []argument) string {
		return s.reportSystem(syscall.Mkfifo(words[0].text, 0o644))
	}},
	"make_symlink": {"pt", func(s *scenario, words []argument) string {
		return s.reportSystem(os.Symlink(words[1].text, words[0].text))
	}},
	"remove": {"p", func(s *scenario, words []argument) string { return s.reportSystem(os.Remove(words[0].text)) }},
	"move": {"pp", func(s *scenario, words []argument) string {
		return s.reportSystem(os.Rename(words[0].text, words[1].text))
	}},
	"use_up_inodes":  {"p", useUpInodes},
	"age":            {"pn", age},
	"look":           {"p", look},
	"contents":       {"p", contents},
	"list_directory": {"p", listDirectory},
	"attribute":      {"pt?t", attribute},
}
