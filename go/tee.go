// A source that is delivered, and cached on the way.

package imagecache

// #include "bridge.h"
import "C"

import (
	"io"
	"runtime/cgo"
)

// A Tee reads from a source, delivers the bytes, and caches them on the way. If the image cannot be cached, it delivers all the
// same.
//
// Any number of goroutines may use it: calls of one Tee wait for each other. Its source runs on the goroutine that calls Read, and
// must not use the tee.
type Tee struct {
	handle    *C.image_cache_tee_t
	callbacks *callbacks
	source    *source
	exclusive
}

var (
	_ io.ReadCloser = (*Tee)(nil)
	_ io.WriterTo   = (*Tee)(nil)
)

// OpenTee opens a tee. The source is not closed by it.
func (c *Cache) OpenTee(id string, from io.Reader) (*Tee, error) {
	if from == nil {
		return nil, invalid("the source is nil")
	}
	tee := &Tee{callbacks: c.callbacks, source: &source{reader: from}}
	tee.source.handle = &tee.exclusive
	tee.source.number = cgo.NewHandle(tee.source)
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		status := C.image_cache_go_tee_open(cache, image, C.uintptr_t(tee.source.number), &tee.handle, failure)
		if status == ok {
			c.callbacks.retain()
		}
		return status
	})
	if err != nil {
		tee.source.number.Delete()
		return nil, err
	}
	return tee, nil
}

func (t *Tee) call(function func(*C.image_cache_error_t) C.image_cache_status_t) error {
	return t.use("tee", func() error { return call(function) })
}

// ExpectSize sets the length that the source must have, before the first read.
func (t *Tee) ExpectSize(bytes uint64) error {
	return t.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_tee_expect_size(t.handle, C.uint64_t(bytes), failure)
	})
}

// ExpectDigest sets a digest that the source's bytes must have, before the first read: see Writer.ExpectDigest.
func (t *Tee) ExpectDigest(algorithm, hex string) error {
	name, digits, err := texts("algorithm", algorithm, "digest", hex)
	if err != nil {
		return err
	}
	return t.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_tee_expect_digest(t.handle, name, digits, failure)
	})
}

// RefuseEmpty makes a source without a byte a failure, before the first read.
func (t *Tee) RefuseEmpty() error {
	return t.call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_tee_refuse_empty(t.handle, failure)
	})
}

// Read reads the source's next bytes, with one call of the source, and caches them. At io.EOF the image is published. So read to
// io.EOF, or expect a size.
func (t *Tee) Read(p []byte) (n int, err error) {
	err = t.use("tee", func() error {
		var length C.size_t
		err := call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_tee_read(t.handle, pointer(p), C.size_t(len(p)), &length, failure)
		})
		n = int(length)
		return because(err, ErrSource, t.source.failure)
	})
	return n, orEOF(n, len(p), err)
}

// WriteTo reads to the end, with pieces of up to 256 KiB. io.Copy calls it.
func (t *Tee) WriteTo(to io.Writer) (int64, error) { return copyTo(to, t) }

// IsCaching says whether the bytes are being cached, or were cached at the end. It is false after Close.
func (t *Tee) IsCaching() bool {
	var isCaching bool
	_ = t.use("tee", func() error { // after Close it caches nothing
		isCaching = bool(C.image_cache_tee_is_caching(t.handle))
		return nil
	})
	return isCaching
}

// Close ends the tee, after a call in progress. Before the source's end, nothing is cached, unless the expected size has come.
func (t *Tee) Close() error {
	return t.end("tee", func() error {
		C.image_cache_tee_close(t.handle)
		t.source.number.Delete()
		t.callbacks.release()
		return nil
	})
}
