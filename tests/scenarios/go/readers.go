// Operations on readers, exports, and every call that takes an image's id.

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"syscall"

	"imagecache"
)

func openForRead(s *scenario, words []argument) string {
	reader, err := s.selected.cache.OpenForRead(words[1].text)
	if err == nil {
		s.handles[words[0].text] = &handle{reader: reader}
	}
	return s.reportValue(reader, err, "")
}

// readOnce prints the bytes of one read with a buffer of that capacity.
func (s *scenario) readOnce(capacity uint64, read func([]byte) (int, error)) string {
	buffer := make([]byte, capacity)
	n, err := read(buffer)
	if err == io.EOF {
		err = nil
	}
	return s.reportValue(n, err, fingerprint(buffer[:n]))
}

// readAll reads to the end or a failure, and returns the bytes in either case.
func readAll(capacity uint64, read func([]byte) (int, error)) ([]byte, error) {
	var all []byte
	buffer := make([]byte, capacity)
	for {
		n, err := read(buffer)
		all = append(all, buffer[:n]...)
		if err == io.EOF || err == nil && n == 0 {
			return all, nil
		} else if err != nil {
			return all, err
		}
	}
}

// offsetOf is an offset beyond every end for one that the type cannot have.
func offsetOf(number uint64) int64 {
	if number > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(number)
}

func (s *scenario) reportAll(all []byte, err error) string {
	if err != nil {
		return s.report(err)
	}
	return s.reportValue(all, nil, fingerprint(all))
}

func readImage(s *scenario, words []argument) string {
	reader, err := s.selected.cache.OpenForRead(words[0].text)
	if err != nil {
		return s.report(err)
	}
	defer reader.Close()
	return s.reportAll(readAll(65536, reader.Read))
}

func exportImage(s *scenario, words []argument) string {
	file := scratch()
	defer file.Close()
	how, err := s.selected.cache.Export(context.Background(), words[0].text, file, imagecache.ExportOptions{})
	if err != nil {
		return s.reportValue(how, err, "")
	}
	return s.reportAll(io.ReadAll(file))
}

func readerPath(_ *scenario, words []argument) string {
	reader := words[0].handle.reader
	var opened, named syscall.Stat_t
	err := syscall.Fstat(int(reader.Fd()), &opened)
	switch {
	case err != nil || !strings.HasPrefix(reader.Path(), "/"):
		return "OK relative"
	case syscall.Stat(reader.Path(), &named) != nil:
		return "OK absent"
	case opened.Dev == named.Dev && opened.Ino == named.Ino:
		return "OK its_file"
	}
	return "OK another_file"
}

func readerFd(_ *scenario, words []argument) string {
	fd := words[0].handle.reader.Fd()
	mode, _, failed := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0)
	flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFD, 0)
	access, exec := "writable", "inherited"
	if failed == 0 && mode&syscall.O_ACCMODE == syscall.O_RDONLY {
		access = "read_only"
	}
	if flags&syscall.FD_CLOEXEC != 0 {
		exec = "close_on_exec"
	}
	return "OK " + access + " " + exec
}

// everyCall makes every call that takes an image's id.
func everyCall(s *scenario, words []argument) string {
	cache, id, ctx := s.selected.cache, words[0].text, context.Background()
	file := scratch()
	defer file.Close()
	only := func(_ any, err error) error { return err }
	expired, cancel := context.WithTimeout(ctx, 0)
	defer cancel()
	var names, statuses []string
	call := func(name string, err error) {
		names, statuses = append(names, name), append(statuses, s.report(err))
	}
	call("is_cached", only(cache.IsCached(id)))
	call("is_being_cached", only(cache.IsBeingCached(id)))
	call("is_queued", only(cache.IsQueued(id)))
	call("is_cacheable", only(cache.IsCacheable(id)))
	call("wait_cached", only(cache.WaitCached(expired, id)))
	call("get_image_size", only(cache.ImageSize(id)))
	call("get_hit_count", only(cache.HitCount(id)))
	call("queue_image", only(cache.QueueImage(id)))
	call("delete_queued_image", cache.DeleteQueuedImage(id))
	call("delete_cached_image", cache.DeleteCachedImage(id))
	call("delete_unused_image", only(cache.DeleteUnusedImage(id)))
	call("pin", cache.Pin(id, "holder", imagecache.ForLife))
	call("unpin", cache.Unpin(id, "holder"))
	reader, err := cache.OpenForRead(id)
	call("open_for_read", err)
	call("export", only(cache.Export(ctx, id, file, imagecache.ExportOptions{})))
	writer, err := cache.BeginWrite(id)
	call("begin_write", err)
	tee, err := cache.OpenTee(id, new(bytes.Buffer))
	call("tee_open", err)
	stream, err := cache.OpenStream(id, new(strings.Reader))
	call("stream_open", err)
	if reader != nil {
		reader.Close()
	}
	if writer != nil {
		writer.Abort("every call")
	}
	if tee != nil {
		tee.Close()
	}
	if stream != nil {
		stream.Close()
	}
	different := false
	for i, status := range statuses {
		different = different || status != statuses[0]
		names[i] += ":" + status
	}
	if !different {
		return statuses[0]
	}
	return list(names)
}

var readerOperations = map[string]operation{
	"open_for_read": {"@Nt", openForRead},
	"read": {"rn", func(s *scenario, words []argument) string {
		return s.readOnce(words[1].number, words[0].handle.reader.Read)
	}},
	"read_at": {"rnn", func(s *scenario, words []argument) string {
		return s.readOnce(words[2].number, func(p []byte) (int, error) {
			return words[0].handle.reader.ReadAt(p, offsetOf(words[1].number))
		})
	}},
	"read_all": {"rn", func(s *scenario, words []argument) string {
		return s.reportAll(readAll(words[1].number, words[0].handle.reader.Read))
	}},
	"reader_size": {"r", func(_ *scenario, words []argument) string { return fmt.Sprint("OK ", words[0].handle.reader.Size()) }},
	"reader_path": {"r", readerPath},
	"reader_fd":   {"r", readerFd},
	"reader_close": {"r", func(s *scenario, words []argument) string {
		return s.report(s.end(words[0], words[0].handle.reader.Close))
	}},
	"read_image":      {"@t", readImage},
	"export":          {"@t", exportImage},
	"every_call_with": {"@t", everyCall},
}
