// A cached image that is read.

package imagecache

// #include <image_cache.h>
import "C"

import (
	"io"
	"os"
	"syscall"
	"unsafe"
)

// A Reader reads a cached image. While it is open, the image is not evicted. It reads the same bytes even if the image is deleted.
//
// Any number of goroutines may use it: calls of one Reader wait for each other. For reads in parallel, open several, or use File.
type Reader struct {
	handle     *C.image_cache_reader_t
	callbacks  *callbacks
	size       int64
	offset     int64 // of the next Read
	sequential int64 // the position of image_cache_read
	exclusive
}

var (
	_ io.ReadSeekCloser = (*Reader)(nil)
	_ io.ReaderAt       = (*Reader)(nil)
	_ io.WriterTo       = (*Reader)(nil)
)

// OpenForRead opens a cached image, which counts as an access. ErrNotFound: it is not cached.
func (c *Cache) OpenForRead(id string) (*Reader, error) {
	reader := &Reader{callbacks: c.callbacks}
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		status := C.image_cache_open_for_read(cache, image, &reader.handle, failure)
		if status == ok {
			c.callbacks.retain()
		}
		return status
	})
	if err != nil {
		return nil, err
	}
	reader.size = int64(C.image_cache_reader_size(reader.handle))
	return reader, nil
}

// pointer is the first byte of a buffer; nil if that is empty.
func pointer(buffer []byte) unsafe.Pointer {
	if len(buffer) == 0 {
		return nil
	}
	return unsafe.Pointer(&buffer[0])
}

// Read reads the next bytes; io.EOF at the end.
func (r *Reader) Read(p []byte) (n int, err error) {
	err = r.use("reader", func() error {
		var length C.size_t
		err := call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
			if r.offset != r.sequential { // after a Seek
				return C.image_cache_read_at(r.handle, C.uint64_t(r.offset), pointer(p), C.size_t(len(p)), &length, failure)
			}
			return C.image_cache_read(r.handle, pointer(p), C.size_t(len(p)), &length, failure)
		})
		n = int(length)
		if r.offset == r.sequential {
			r.sequential += int64(n)
		}
		r.offset += int64(n)
		return err
	})
	return n, orEOF(n, len(p), err)
}

// orEOF is io.EOF for a read that got nothing.
func orEOF(n, wanted int, err error) error {
	if err == nil && n == 0 && wanted > 0 {
		return io.EOF
	}
	return err
}

// WriteTo writes the rest of the image, in pieces of 256 KiB. io.Copy calls it.
func (r *Reader) WriteTo(to io.Writer) (int64, error) { return copyTo(to, r) }

// copyTo copies in larger pieces than io.Copy: that halves its time.
func copyTo(to io.Writer, from io.Reader) (int64, error) {
	// Without their other methods, which io.CopyBuffer would call instead.
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, chunk))
}

// ReadAt fills the buffer from an offset; io.EOF if the image ends before. The position of Read does not change.
func (r *Reader) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, invalid("a negative offset: %d", offset)
	}
	return fill(p, func(p []byte, done int) (n int, err error) {
		err = r.use("reader", func() error {
			var length C.size_t
			err := call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
				return C.image_cache_read_at(r.handle, C.uint64_t(offset+int64(done)), pointer(p), C.size_t(len(p)), &length, failure)
			})
			n = int(length)
			return err
		})
		return n, orEOF(n, len(p), err)
	})
}

// fill reads until the buffer is full, as io.ReaderAt promises. Read gets the rest of it, and how much is done.
func fill(p []byte, read func(rest []byte, done int) (int, error)) (int, error) {
	n, err := read(p, 0)
	for err == nil && n < len(p) {
		var more int
		more, err = read(p[n:], n)
		n += more
	}
	return n, err
}

// Seek sets the position of Read.
func (r *Reader) Seek(offset int64, whence int) (position int64, err error) {
	err = r.use("reader", func() error {
		switch whence {
		case io.SeekStart:
		case io.SeekCurrent:
			offset += r.offset
		case io.SeekEnd:
			offset += r.size
		default:
			return invalid("whence is %d", whence)
		}
		if offset < 0 {
			return invalid("a position before the image")
		}
		r.offset, position = offset, offset
		return nil
	})
	return position, err
}

// Size is the image's length in bytes.
func (r *Reader) Size() int64 { return r.size }

// Path is the path of the image's file, absolute. Keep the reader until another program has opened it. It is "" after Close.
func (r *Reader) Path() string {
	var path string
	_ = r.use("reader", func() error { // after Close there is none
		path = C.GoString(C.image_cache_reader_path(r.handle))
		return nil
	})
	return path
}

// Fd is the descriptor of the image's file, open for reading. It is the reader's: valid until Close, and not to be closed.
// It is ^uintptr(0) after Close.
func (r *Reader) Fd() uintptr {
	fd := ^uintptr(0)
	_ = r.use("reader", func() error { // after Close there is none
		fd = uintptr(C.image_cache_reader_fd(r.handle))
		return nil
	})
	return fd
}

// File is the image's file, open for reading: for sendfile, mmap, a child process. It has a descriptor of its own, which keeps the
// image from eviction until it is closed, and an offset that all files of this reader share. What is read from it is not counted
// in the statistics.
func (r *Reader) File() (*os.File, error) {
	var file *os.File
	err := r.use("reader", func() error {
		fd := uintptr(C.image_cache_reader_fd(r.handle))
		duplicate, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
		if errno != 0 {
			return os.NewSyscallError("fcntl", errno)
		}
		file = os.NewFile(duplicate, C.GoString(C.image_cache_reader_path(r.handle)))
		return nil
	})
	return file, err
}

// Close ends the reader, which counts one hit of the image.
func (r *Reader) Close() error {
	return r.end("reader", func() error {
		C.image_cache_reader_close(r.handle)
		r.callbacks.release()
		return nil
	})
}
