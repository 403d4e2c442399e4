// An image that is written.

package imagecache

// #include <image_cache.h>
// #include <stdlib.h>
import "C"

import (
	"io"
	"strings"
	"unsafe"
)

// A Writer is the only writer of its image, over all processes of the host. Commit or Abort ends it.
//
//	writer, err := cache.BeginWrite(id)
//	if err != nil { ... }
//	defer writer.Abort("the download failed") // does nothing after Commit
//	if _, err := io.Copy(writer, body); err != nil { ... }
//	err = writer.Commit()
//
// Any number of goroutines may use it: calls of one Writer wait for each other.
type Writer struct {
	handle    *C.image_cache_writer_t
	callbacks *callbacks
	id        string
	isLent    bool // to a fetch function: Prefetch ends it
	exclusive
}

var (
	_ io.Writer     = (*Writer)(nil)
	_ io.ReaderFrom = (*Writer)(nil)
)

// BeginWrite begins to cache an image. ErrAlreadyCached, ErrBeingCached: somebody else was first.
func (c *Cache) BeginWrite(id string) (*Writer, error) {
	writer := &Writer{callbacks: c.callbacks, id: id}
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		status := C.image_cache_begin_write(cache, image, &writer.handle, failure)
		if status == ok {
			c.callbacks.retain()
		}
		return status
	})
	if err != nil {
		return nil, err
	}
	return writer, nil
}

func (w *Writer) call(function func(*C.image_cache_error_t) C.image_cache_status_t) error {
	return w.use("writer", func() error { return call(function) })
}

// ExpectSize sets the length that the image must have, before the first byte. With a hard limit or a floor, room is reserved now.
func (w *Writer) ExpectSize(bytes uint64) error {
	return w.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_writer_expect_size(w.handle, C.uint64_t(bytes), failure)
	})
}

// ExpectDigest sets a digest that the image must have, before the first byte: "md5", "sha256", "sha512" or "crc64nvme", and its
// hexadecimal digits. Several can be expected.
func (w *Writer) ExpectDigest(algorithm, hex string) error {
	name, digits, err := texts("algorithm", algorithm, "digest", hex)
	if err != nil {
		return err
	}
	return w.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_writer_expect_digest(w.handle, name, digits, failure)
	})
}

func texts(what, s, whatOther, other string) (*C.char, *C.char, error) {
	one, err := text(what, s)
	if err != nil {
		return nil, nil, err
	}
	two, err := text(whatOther, other)
	return one, two, err
}

// Write appends bytes. The first failure is final: each later call, and Commit, return it again.
func (w *Writer) Write(p []byte) (int, error) {
	err := w.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_write_chunk(w.handle, pointer(p), C.size_t(len(p)), failure)
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// chunk is how much ReadFrom writes, and WriteTo reads, at once. WithSparse finds all runs of zeros in multiples of 64 KiB.
const chunk = 256 << 10

// ReadFrom appends all bytes of a source, in chunks of 256 KiB. io.Copy calls it.
func (w *Writer) ReadFrom(from io.Reader) (int64, error) {
	buffer := make([]byte, chunk)
	var written int64
	for {
		// Not io.ReadFull: it returns io.ErrUnexpectedEOF at the end, which a source returns that was cut off.
		n, err := 0, error(nil)
		for empty := 0; n < len(buffer) && err == nil; {
			var more int
			more, err = from.Read(buffer[n:])
			if n += more; more > 0 {
				empty = 0
			} else if empty++; err == nil && empty == maxEmptyReads {
				err = io.ErrNoProgress
			}
		}
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return written, err
			}
			written += int64(n)
		}
		if err == io.EOF {
			return written, nil
		} else if err != nil {
			return written, err
		}
	}
}

// WriteHole appends bytes that are 0 and take up no room on the disk. They count for size and digests.
func (w *Writer) WriteHole(bytes uint64) error {
	return w.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_write_hole(w.handle, C.uint64_t(bytes), failure)
	})
}

// Commit publishes the image if it is as expected, and ends the writer, also on failure.
func (w *Writer) Commit() error {
	if w.isLent { // the library refuses it, and does not end the writer
		return w.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_commit(w.handle, failure)
		})
	}
	return w.end("writer", func() error {
		defer w.callbacks.release()
		return w.callbacks.publishing(w.id, func() error {
			return call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
				return C.image_cache_commit(w.handle, failure)
			})
		})
	})
}

// Abort ends the writer without publishing the image. The reason, which may be "", is kept with the file in invalid/. After the
// end of the writer it does nothing, so it can be deferred. In a fetch function, the fetch fails.
func (w *Writer) Abort(reason string) {
	_ = w.end("writer", func() error { // it has ended: there is nothing to abort
		var stored *C.char
		if reason != "" {
			stored = C.CString(strings.ReplaceAll(reason, "\x00", " "))
			defer C.free(unsafe.Pointer(stored))
		}
		C.image_cache_abort(w.handle, stored)
		if !w.isLent {
			w.callbacks.release()
		}
		return nil
	})
}
