// Sources of tees and streams: what the library calls for bytes.

package imagecache

import (
	"errors"
	"io"
	"runtime/cgo"
)

// source is the Reader of a tee, or the ReaderAt of a stream.
type source struct {
	reader  io.Reader
	at      io.ReaderAt
	handle  *exclusive
	number  cgo.Handle
	pending error // returned with bytes, and due with the next call
	failure error // why it failed
}

// maxEmptyReads is how many reads without a byte and without an error are made in a row, as by bufio.
const maxEmptyReads = 100

var errInvalidCount = errors.New("the source returned a negative count")

// read returns what image_cache_source_fn returns.
func (s *source) read(buffer []byte) int64 {
	return s.call(func() (int, error) {
		if s.pending != nil {
			return 0, s.pending
		}
		for i := 0; i < maxEmptyReads; i++ {
			n, err := s.reader.Read(buffer)
			if n > 0 {
				s.pending = err
				return n, nil
			}
			if n < 0 || err != nil {
				return n, err
			}
		}
		return 0, io.ErrNoProgress
	})
}

// readAt returns what image_cache_range_source_fn returns.
func (s *source) readAt(offset int64, buffer []byte) int64 {
	return s.call(func() (int, error) {
		n, err := s.at.ReadAt(buffer, offset)
		if n > 0 {
			return n, nil // the next call, at the byte after these, gets the error
		}
		if n == 0 && err == nil {
			err = io.ErrNoProgress
		}
		return n, err
	})
}

// call returns the number of bytes, 0 at the end, or -1. A count above the buffer is the library's to refuse.
func (s *source) call(function func() (int, error)) int64 {
	var n int
	err := guarded(func() (err error) {
		s.handle.inCallback(func() { n, err = function() })
		if n < 0 {
			return errInvalidCount
		}
		return err
	})
	switch err {
	case nil:
		return int64(n)
	case io.EOF:
		return 0
	}
	s.failure = err
	return -1
}

// ReaderAtFunc makes a function a source of a stream. It may return fewer bytes than the buffer has room for.
type ReaderAtFunc func(p []byte, offset int64) (n int, err error)

// ReadAt calls the function.
func (f ReaderAtFunc) ReadAt(p []byte, offset int64) (int, error) { return f(p, offset) }
