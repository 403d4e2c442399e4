// The Go functions that the C functions of bridge.c call. None lets a panic cross the library.

package imagecache

// #include <image_cache.h>
import "C"

import (
	"errors"
	"os"
	"runtime/cgo"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unicode/utf8"
	"unsafe"
)

// guarded calls the function, and returns its panic as an error.
func guarded(function func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return function()
}

// callbacks are those of a cache. The library calls them until the last handle of the cache has ended.
type callbacks struct {
	log     func(LogLevel, string)
	inspect Inspector

	handles atomic.Int64 // how many handles of the library can call them
	number  cgo.Handle   // what the library gets as user data; 0: there is no callback
	mutex   sync.Mutex
	failed  error // the first panic of the log function
	// What the inspector returned for an image that a call in progress publishes. The message has only the text.
	refusals map[string]error
}

func (c *callbacks) retain() { c.handles.Add(1) }

func (c *callbacks) release() {
	if c.handles.Add(-1) == 0 && c.number != 0 {
		c.number.Delete()
	}
}

// publishing calls a function that may publish the image, and adds what the inspector returned to its error.
func (c *callbacks) publishing(id string, function func() error) error {
	if c.inspect == nil {
		return function()
	}
	c.setRefusal(id, nil, true)
	err := function()
	c.mutex.Lock()
	defer c.mutex.Unlock()
	refusal := c.refusals[id]
	delete(c.refusals, id)
	return because(err, ErrRefused, refusal)
}

// setRefusal keeps an error for an image. Without begin, only if a call publishes it.
func (c *callbacks) setRefusal(id string, refusal error, begin bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if _, isExpected := c.refusals[id]; isExpected || begin {
		c.refusals[id] = refusal
	}
}

//export imageCacheGoLog
func imageCacheGoLog(handle C.uintptr_t, level C.int32_t, message *C.char) {
	c := cgo.Handle(handle).Value().(*callbacks)
	if c.log == nil {
		return
	}
	err := guarded(func() error {
		c.log(LogLevel(level), C.GoString(message))
		return nil
	})
	if err != nil {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		if c.failed == nil {
			c.failed = err
		}
	}
}

// An Inspector accepts an image by nil before it is published, or refuses it by an error, which is the reason in invalid/.
//
// The file is open for reading, and closed afterwards. The function may take long, and may use the cache, but must not wait for the
// same image. It is called by several goroutines at once, for several images. A panic refuses the image.
type Inspector func(id string, file *os.File, size int64) error

//export imageCacheGoInspect
func imageCacheGoInspect(handle C.uintptr_t, id *C.char, fd C.int32_t, size C.uint64_t, reason *C.char, capacity C.size_t) C.image_cache_status_t {
	c := cgo.Handle(handle).Value().(*callbacks)
	image := C.GoString(id)
	err := guarded(func() error {
		// The library owns fd, and os.File closes its own.
		duplicate, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
		if errno != 0 {
			return os.NewSyscallError("fcntl", errno)
		}
		file := os.NewFile(duplicate, image)
		defer file.Close()
		return c.inspect(image, file, int64(size))
	})
	if err == nil {
		return ok
	}
	c.setRefusal(image, err, false)
	putReason(unsafe.Slice((*byte)(unsafe.Pointer(reason)), int(capacity)), err.Error())
	return C.image_cache_status_t(ErrRefused)
}

// putReason cuts a text to the buffer, which is zeroed: its last byte stays 0.
func putReason(buffer []byte, reason string) {
	reason = strings.ToValidUTF8(strings.ReplaceAll(reason, "\x00", " "), "?")
	for len(reason) > len(buffer)-1 {
		_, length := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-length]
	}
	copy(buffer, reason)
}

//export imageCacheGoSource
func imageCacheGoSource(handle C.uintptr_t, buffer unsafe.Pointer, capacity C.size_t) C.int64_t {
	s := cgo.Handle(handle).Value().(*source)
	return C.int64_t(s.read(unsafe.Slice((*byte)(buffer), int(capacity))))
}

//export imageCacheGoRangeSource
func imageCacheGoRangeSource(handle C.uintptr_t, offset C.uint64_t, buffer unsafe.Pointer, capacity C.size_t) C.int64_t {
	s := cgo.Handle(handle).Value().(*source)
	return C.int64_t(s.readAt(int64(offset), unsafe.Slice((*byte)(buffer), int(capacity))))
}

//export imageCacheGoFetch
func imageCacheGoFetch(handle C.uintptr_t, id *C.char, writer *C.image_cache_writer_t) C.image_cache_status_t {
	p := cgo.Handle(handle).Value().(*prefetching)
	err := p.fetch(C.GoString(id), writer)
	if err == nil {
		return ok
	}
	var failure *Error
	if errors.As(err, &failure) {
		return C.image_cache_status_t(failure.Status)
	}
	return C.image_cache_status_t(ErrSource)
}

//export imageCacheGoCopyProgress
func imageCacheGoCopyProgress(handle C.uintptr_t, done, total C.uint64_t) C.int32_t {
	return stops(cgo.Handle(handle).Value().(*progress).report("", uint64(done), uint64(total)))
}

//export imageCacheGoVerifyProgress
func imageCacheGoVerifyProgress(handle C.uintptr_t, id *C.char, done, total C.uint64_t) C.int32_t {
	return stops(cgo.Handle(handle).Value().(*progress).report(C.GoString(id), uint64(done), uint64(total)))
}

// stops is what a progress function returns to the library.
func stops(err error) C.int32_t {
	if err != nil {
		return 1
	}
	return 0
}
