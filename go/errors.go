// Errors: a status of the library with its message, and what errors.Is finds in it.

package imagecache

// #cgo pkg-config: image_cache
// #include <image_cache.h>
import "C"

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// A Status is the outcome of a failed call. Each is an error, to compare with errors.Is:
//
//	if errors.Is(err, imagecache.ErrNotFound) { ... }
type Status int32

// The statuses. Later versions of the library can add some: treat an unknown one as an error.
const (
	ErrInvalidArgument Status = C.IMAGE_CACHE_ERROR_INVALID_ARGUMENT // a value out of range, or a call in the wrong state
	ErrInvalidImageID  Status = C.IMAGE_CACHE_ERROR_INVALID_IMAGE_ID // the text is not a valid image id
	ErrNotFound        Status = C.IMAGE_CACHE_ERROR_NOT_FOUND        // the image is not cached
	ErrAlreadyCached   Status = C.IMAGE_CACHE_ERROR_ALREADY_CACHED   // the image is cached already
	ErrBeingCached     Status = C.IMAGE_CACHE_ERROR_BEING_CACHED     // a live writer has the image
	ErrDigestMismatch  Status = C.IMAGE_CACHE_ERROR_DIGEST_MISMATCH  // the bytes do not have the expected digest
	ErrSizeMismatch    Status = C.IMAGE_CACHE_ERROR_SIZE_MISMATCH    // there are more or fewer bytes than expected
	ErrNoSpace         Status = C.IMAGE_CACHE_ERROR_NO_SPACE         // the disk is full, or a limit leaves no room
	ErrIO              Status = C.IMAGE_CACHE_ERROR_IO               // any other system error; Errno says which
	ErrIndex           Status = C.IMAGE_CACHE_ERROR_INDEX            // the driver's metadata failed
	ErrUnsupported     Status = C.IMAGE_CACHE_ERROR_UNSUPPORTED      // the file system or the library cannot do it
	ErrLost            Status = C.IMAGE_CACHE_ERROR_LOST             // the incomplete file was cleaned away or changed
	ErrSource          Status = C.IMAGE_CACHE_ERROR_SOURCE           // your source, fetch or progress function failed; Err says how
	ErrForked          Status = C.IMAGE_CACHE_ERROR_FORKED           // the handle is that of another process
	ErrInternal        Status = C.IMAGE_CACHE_ERROR_INTERNAL         // a defect of the library
	ErrNoMemory        Status = C.IMAGE_CACHE_ERROR_NO_MEMORY        // an allocation failed
	ErrTimedOut        Status = C.IMAGE_CACHE_ERROR_TIMED_OUT        // another process held the cache lock too long: retry
	ErrRefused         Status = C.IMAGE_CACHE_ERROR_REFUSED          // the inspection refused the image
	ErrPinned          Status = C.IMAGE_CACHE_ERROR_PINNED           // the image is pinned
)

const ok = C.IMAGE_CACHE_OK

// String is the name in the C header, for example "IMAGE_CACHE_ERROR_NOT_FOUND".
func (s Status) String() string {
	return C.GoString(C.image_cache_status_name(C.image_cache_status_t(s)))
}

// Error is String.
func (s Status) Error() string { return s.String() }

// Is matches the errors of the standard library that mean the same as the status.
func (s Status) Is(target error) bool {
	switch s {
	case ErrNotFound:
		return target == fs.ErrNotExist
	case ErrAlreadyCached:
		return target == fs.ErrExist
	case ErrTimedOut:
		return target == os.ErrDeadlineExceeded
	case ErrInvalidArgument, ErrInvalidImageID:
		return target == fs.ErrInvalid
	case ErrUnsupported:
		return target == errUnsupported
	}
	return false
}

// errUnsupported is errors.ErrUnsupported where the standard library has it.
var errUnsupported = errors.New("unsupported")

// Error describes why a call failed. Use errors.As to get it, and errors.Is to compare it with
//
//   - a Status, for example ErrNotFound
//   - a syscall.Errno
//   - fs.ErrNotExist (ErrNotFound), fs.ErrExist (ErrAlreadyCached), fs.ErrInvalid, fs.ErrPermission, os.ErrDeadlineExceeded
//   - the error that your own source, fetch, inspector or progress function returned, or that of the context
type Error struct {
	Status  Status
	Errno   syscall.Errno // of the system call that failed, or 0
	Message string        // the operation, the path and the cause
	Err     error         // what your own function returned, or nil
}

// Error is the message, with that of your own function.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Is compares it with a Status, an errno, or an error of the standard library.
func (e *Error) Is(target error) bool {
	switch target := target.(type) {
	case Status:
		return target == e.Status
	case syscall.Errno:
		return target == e.Errno && target != 0
	}
	return e.Status.Is(target) || e.Errno != 0 && e.Errno.Is(target)
}

// Unwrap is the error of your own function.
func (e *Error) Unwrap() error { return e.Err }

// Timeout says whether a time-out was the cause, as that of net.Error does.
func (e *Error) Timeout() bool { return e.Status == ErrTimedOut }

// PanicError is a panic of a function that the library called. A panic cannot cross the library, so it becomes an error.
type PanicError struct {
	Value any
	Stack []byte // where it panicked
}

func (p *PanicError) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Unwrap is the value of the panic, if that is an error.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// failures has the error structs of earlier calls: they have 512 bytes.
var failures = sync.Pool{New: func() any { return new(C.image_cache_error_t) }}

// call calls the library with an error struct of its own, so the goroutine may change threads between two calls.
func call(function func(*C.image_cache_error_t) C.image_cache_status_t) error {
	failure := failures.Get().(*C.image_cache_error_t)
	defer failures.Put(failure)
	failure.os_error, failure.message[0] = 0, 0
	status := function(failure)
	if status >= ok {
		return nil
	}
	return &Error{
		Status:  Status(status),
		Errno:   syscall.Errno(failure.os_error),
		Message: C.GoString(&failure.message[0]),
	}
}

func invalid(format string, values ...any) error {
	return &Error{Status: ErrInvalidArgument, Message: fmt.Sprintf(format, values...)}
}

func closed(what string) error { return fmt.Errorf("this %s: %w", what, os.ErrClosed) }

// because adds the cause to a failure of the status.
func because(err error, status Status, cause error) error {
	var failure *Error
	if cause != nil && errors.As(err, &failure) && failure.Status == status {
		failure.Err = cause
	}
	return err
}

// text is a NUL-terminated copy of s that the library borrows for a call. It would take a NUL in s for the end.
func text(what, s string) (*C.char, error) {
	bytes := make([]byte, len(s)+1)
	for i := 0; i < len(s); i++ {
		if s[i] == 0 {
			return nil, invalid("a NUL in the %s %q", what, s)
		}
		bytes[i] = s[i]
	}
	return (*C.char)(unsafe.Pointer(&bytes[0])), nil
}

func imageID(id string) (*C.char, error) {
	pointer, err := text("image id", id)
	if err != nil {
		err = &Error{Status: ErrInvalidImageID, Message: err.Error()}
	}
	return pointer, err
}
