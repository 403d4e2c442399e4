// An image that all readers of the host fetch together.

package imagecache

// #include "bridge.h"
import "C"

import (
	"io"
	"runtime/cgo"
	"time"
)

// A Role says where the bytes that a stream returned last came from.
type Role int32

// The roles.
const (
	Cached    Role = C.IMAGE_CACHE_STREAM_CACHED    // from the cached image
	Fetching  Role = C.IMAGE_CACHE_STREAM_FETCHING  // from the stream's own source, into the file that all share
	Following Role = C.IMAGE_CACHE_STREAM_FOLLOWING // from the file that all share
	Alone     Role = C.IMAGE_CACHE_STREAM_ALONE     // from the stream's own source, and not cached
)

func (r Role) String() string {
	return name(int(r), "Role", "cached", "fetching", "following", "alone")
}

// A Stream reads a cached image, or fetches it together with all other streams of it, in all processes of the host.
//
// Any number of goroutines may use it: calls of one Stream wait for each other, and a read may wait for bytes of others. Its source
// runs on the goroutine that reads, and must not use the stream.
type Stream struct {
	handle    *C.image_cache_stream_t
	callbacks *callbacks
	source    *source
	exclusive
}

var (
	_ io.ReadCloser = (*Stream)(nil)
	_ io.ReaderAt   = (*Stream)(nil)
	_ io.WriterTo   = (*Stream)(nil)
)

// OpenStream opens a stream. The source is called for bytes that are not in the cache, and may return fewer bytes than requested
// (ReaderAtFunc). The streams of an image share one fetch: sources must have the same bytes.
func (c *Cache) OpenStream(id string, from io.ReaderAt) (*Stream, error) {
	if from == nil {
		return nil, invalid("the source is nil")
	}
	stream := &Stream{callbacks: c.callbacks, source: &source{at: from}}
	stream.source.handle = &stream.exclusive
	stream.source.number = cgo.NewHandle(stream.source)
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		status := C.image_cache_go_stream_open(cache, image, C.uintptr_t(stream.source.number), &stream.handle, failure)
		if status == ok {
			c.callbacks.retain()
		}
		return status
	})
	if err != nil {
		stream.source.number.Delete()
		return nil, err
	}
	return stream, nil
}

func (s *Stream) call(function func(*C.image_cache_error_t) C.image_cache_status_t) error {
	return s.use("stream", func() error { return call(function) })
}

// ExpectSize sets the length that the image must have, before the first read. The source is never called beyond it.
func (s *Stream) ExpectSize(bytes uint64) error {
	return s.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_stream_expect_size(s.handle, C.uint64_t(bytes), failure)
	})
}

// ExpectDigest sets a digest that the image must have, before the first read: see Writer.ExpectDigest.
func (s *Stream) ExpectDigest(algorithm, hex string) error {
	name, digits, err := texts("algorithm", algorithm, "digest", hex)
	if err != nil {
		return err
	}
	return s.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_stream_expect_digest(s.handle, name, digits, failure)
	})
}

// SetTimeout sets how long a read waits while no byte comes; 0: for ever, the default. Then it returns ErrTimedOut, and can be
// called again.
func (s *Stream) SetTimeout(timeout time.Duration) error {
	if timeout < 0 {
		return invalid("a timeout of %v", timeout)
	}
	return s.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_stream_set_timeout(s.handle, C.uint64_t(whole(timeout, time.Millisecond)), failure)
	})
}

// SetSourceTimeout sets how long the source of another participant may take for one call, until this stream calls its own. The
// default is 30 s.
func (s *Stream) SetSourceTimeout(timeout time.Duration) error {
	if timeout < 0 {
		return invalid("a timeout of %v", timeout)
	}
	return s.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_stream_set_source_timeout(s.handle, C.uint64_t(whole(timeout, time.Millisecond)), failure)
	})
}

// Read reads the next bytes, and fetches them if nobody else does. At io.EOF the image was verified and published. So read to io.EOF,
// or expect a size.
func (s *Stream) Read(p []byte) (n int, err error) {
	err = s.use("stream", func() error {
		var length C.size_t
		err := call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_stream_read(s.handle, pointer(p), C.size_t(len(p)), &length, failure)
		})
		n = int(length)
		return because(err, ErrSource, s.source.failure)
	})
	return n, orEOF(n, len(p), err)
}

// WriteTo reads to the end, with pieces of up to 256 KiB. io.Copy calls it.
func (s *Stream) WriteTo(to io.Writer) (int64, error) { return copyTo(to, s) }

// ReadAt fills the buffer from an offset; io.EOF if the image ends before. The position of Read does not change. Bytes that are far
// ahead of the fetch come from the stream's own source, and are not cached.
func (s *Stream) ReadAt(p []byte, offset int64) (int, error) {
	return fill(p, func(rest []byte, done int) (int, error) { return s.ReadPart(rest, offset+int64(done)) })
}

// ReadPart is ReadAt for the bytes that come first: it returns as soon as there is one, with fewer than the buffer has room for.
func (s *Stream) ReadPart(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, invalid("a negative offset: %d", offset)
	}
	err = s.use("stream", func() error {
		var length C.size_t
		err := call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_stream_read_at(s.handle, C.uint64_t(offset), pointer(p), C.size_t(len(p)), &length, failure)
		})
		n = int(length)
		return because(err, ErrSource, s.source.failure)
	})
	return n, orEOF(n, len(p), err)
}

// Role is where the bytes that were read last came from. It is Alone after Close.
func (s *Stream) Role() Role {
	role := Alone
	_ = s.use("stream", func() error { // after Close it shares nothing
		role = Role(C.image_cache_stream_role(s.handle))
		return nil
	})
	return role
}

// Available is how many bytes of the image are in the cache. It is 0 after Close.
func (s *Stream) Available() uint64 {
	var bytes uint64
	_ = s.use("stream", func() error { // after Close it has none
		bytes = uint64(C.image_cache_stream_available(s.handle))
		return nil
	})
	return bytes
}

// Close ends the stream, after a call in progress. The other participants go on. Without any, the next stream resumes the fetch.
func (s *Stream) Close() error {
	return s.end("stream", func() error {
		C.image_cache_stream_close(s.handle)
		s.source.number.Delete()
		s.callbacks.release()
		return nil
	})
}
