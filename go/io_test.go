// Readers, writers, tees and streams keep the promises of package io.

package imagecache_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"imagecache"
)

func TestReadersTeesAndStreamsPassTheTestsOfPackageIotest(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		data := pattern(20_000)
		cacheImage(t, cache, "1", data)
		reader := must(cache.OpenForRead("1"))(t)
		defer reader.Close()
		check(t, iotest.TestReader(reader, data)) // with io.Seeker and io.ReaderAt
		equal(t, "the size", reader.Size(), int64(len(data)))

		tee := must(cache.OpenTee("2", bytes.NewReader(data)))(t)
		defer tee.Close()
		check(t, iotest.TestReader(tee, data))
		equal(t, "caching", tee.IsCaching(), true)
		same(t, "the tee's image", contents(t, cache, "2"), data)

		for _, id := range []string{"1", "3"} { // cached, and not
			stream := must(cache.OpenStream(id, bytes.NewReader(data)))(t)
			defer stream.Close()
			check(t, iotest.TestReader(stream, data))
		}
		same(t, "the stream's image", contents(t, cache, "3"), data)
	})
}

func TestACopyHasAllBytesAndEndsWithItsTarget(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		data := pattern(700_000)
		cacheImage(t, cache, "1", data)
		full := errors.New("the target is full")
		for _, target := range []io.Writer{new(bytes.Buffer), writerFunc(func(p []byte) (int, error) { return 1, full }),
			writerFunc(func(p []byte) (int, error) { return len(p) - 1, nil })} {
			reader := must(cache.OpenForRead("1"))(t)
			tee := must(cache.OpenTee("2", bytes.NewReader(data)))(t)
			stream := must(cache.OpenStream("3", bytes.NewReader(data)))(t)
			for _, from := range []io.ReadCloser{reader, tee, stream} {
				n, err := io.Copy(target, from)
				if buffer, is := target.(*bytes.Buffer); is {
					check(t, err)
					equal(t, "copied", n, int64(len(data)))
					same(t, "the copy", buffer.Bytes(), data)
					buffer.Reset()
				} else if !errors.Is(err, full) && !errors.Is(err, io.ErrShortWrite) {
					t.Errorf("the error is %v", err)
				}
				check(t, from.Close())
			}
		}
		same(t, "the tee's image", contents(t, cache, "2"), data)
		same(t, "the stream's image", contents(t, cache, "3"), data)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestAWriterTakesAnySource(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		data := pattern(600_000)
		sum := sha256.Sum256(data)
		for id, source := range map[string]io.Reader{
			"whole": bytes.NewReader(data), "half": iotest.HalfReader(bytes.NewReader(data)),
			"end": iotest.DataErrReader(bytes.NewReader(data)), "one": iotest.OneByteReader(bytes.NewReader(data)),
		} {
			writer := must(cache.BeginWrite(id))(t)
			check(t, writer.ExpectSize(uint64(len(data))))
			check(t, writer.ExpectDigest("sha256", hex.EncodeToString(sum[:])))
			equal(t, id, must(io.Copy(writer, source))(t), int64(len(data)))
			check(t, writer.Commit())
			same(t, id, contents(t, cache, id), data)
			equal(t, "the digest", must(cache.Image(id))(t).Digest, "sha256:"+hex.EncodeToString(sum[:]))
		}
	})
}

func TestASourceThatFailsIsNoEnd(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		for _, failure := range []error{errors.New("the store is gone"), io.ErrUnexpectedEOF, os.ErrDeadlineExceeded} {
			// As a download that was cut off.
			source := func() io.Reader { return io.MultiReader(bytes.NewReader(pattern(1000)), iotest.ErrReader(failure)) }
			writer := must(cache.BeginWrite("1"))(t)
			n, err := io.Copy(writer, source())
			wants(t, err, failure)
			equal(t, "what was written", n, 1000)
			writer.Abort("the source failed")

			tee := must(cache.OpenTee("2", source()))(t)
			data, err := io.ReadAll(tee)
			wants(t, err, failure, imagecache.ErrSource)
			same(t, "what was delivered", data, pattern(1000))
			check(t, tee.Close())
			for _, id := range []string{"1", "2"} {
				equal(t, "cached", must(cache.IsCached(id))(t), false)
			}
		}
	})
}

// lastWords returns bytes with an error once, and the end afterwards, as io.Reader allows.
type lastWords struct {
	data string
	err  error
}

func (l *lastWords) Read(p []byte) (int, error) {
	n := copy(p, l.data)
	err := l.err
	l.data, l.err = "", io.EOF
	return n, err
}

func TestAnErrorThatComesWithBytesIsNotLost(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		failure := errors.New("the store is gone")
		tee := must(cache.OpenTee("1", &lastWords{"half", failure}))(t)
		defer tee.Close()
		data, err := io.ReadAll(tee)
		wants(t, err, failure, imagecache.ErrSource)
		equal(t, "what was delivered", string(data), "half")
		equal(t, "cached", must(cache.IsCached("1"))(t), false)

		whole := must(cache.OpenTee("2", &lastWords{"whole", io.EOF}))(t)
		defer whole.Close()
		equal(t, "what was delivered", string(must(io.ReadAll(whole))(t)), "whole")
		equal(t, "cached", must(cache.IsCached("2"))(t), true)
	})
}

type strange int

func (s strange) Read([]byte) (int, error) { return int(s), nil }

func (s strange) ReadAt([]byte, int64) (int, error) { return int(s), nil }

func TestASourceThatReturnsNothingOrANegativeCountFails(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		for source, why := range map[strange]string{0: io.ErrNoProgress.Error(), -1: "negative count", 1 << 40: "returned"} {
			tee := must(cache.OpenTee("1", source))(t)
			_, err := tee.Read(make([]byte, 10))
			wants(t, err, imagecache.ErrSource)
			equal(t, err.Error(), strings.Contains(err.Error(), why), true)
			check(t, tee.Close())
			stream := must(cache.OpenStream("2", source))(t)
			_, err = stream.Read(make([]byte, 10))
			wants(t, err, imagecache.ErrSource)
			check(t, stream.Close())
		}
		for _, open := range []func() error{
			func() error { _, err := cache.OpenTee("3", nil); return err },
			func() error { _, err := cache.OpenStream("3", nil); return err },
		} {
			wants(t, open(), imagecache.ErrInvalidArgument)
		}
	})
}

func TestATeeRefusesAnEmptyImage(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		tee := must(cache.OpenTee("1", strings.NewReader("")))(t)
		defer tee.Close()
		check(t, tee.RefuseEmpty())
		_, err := tee.Read(make([]byte, 1))
		wants(t, err, imagecache.ErrSizeMismatch)
	})
}

func TestHolesAreZerosWithoutBlocks(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		const hole = 4 << 20
		writer := must(cache.BeginWrite("hole"))(t)
		check(t, writer.WriteHole(hole))
		must(writer.Write([]byte("end")))(t)
		check(t, writer.Commit())
		writer = must(cache.BeginWrite("zeros"))(t)
		must(io.Copy(writer, io.MultiReader(bytes.NewReader(make([]byte, hole)), strings.NewReader("end"))))(t)
		check(t, writer.Commit())
		for _, id := range []string{"hole", "zeros"} { // WithSparse makes holes of the zeros
			same(t, id, contents(t, cache, id), append(make([]byte, hole), "end"...))
			reader := must(cache.OpenForRead(id))(t)
			var stat syscall.Stat_t
			check(t, syscall.Stat(reader.Path(), &stat))
			if stat.Blocks*512 > hole/2 {
				t.Errorf("%s has %d blocks", id, stat.Blocks)
			}
			check(t, reader.Close())
			if image := must(cache.Image(id))(t); image.Allocated == 0 || image.Allocated > hole/2 || image.Size != hole+3 {
				t.Errorf("%s: %+v", id, image)
			}
		}
	}, imagecache.WithSparse())
}

func TestTheFileOfAReaderOutlivesIt(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		data := pattern(1000)
		cacheImage(t, cache, "1", data)
		reader := must(cache.OpenForRead("1"))(t)
		file := must(reader.File())(t)
		defer file.Close()
		equal(t, "the name", file.Name(), reader.Path())
		check(t, reader.Close())
		// It keeps the image in use.
		equal(t, "pruned", must(cache.PruneTo(0))(t).Images, 0)
		equal(t, "deleted", must(cache.DeleteUnusedImage("1"))(t), false)
		same(t, "the file", must(io.ReadAll(file))(t), data)
		if _, err := file.Write(data); err == nil {
			t.Error("the file can be written")
		}
		check(t, file.Close())
		equal(t, "pruned", must(cache.PruneTo(0))(t), imagecache.Pruned{Images: 1, Bytes: 1000})
	})
}

func TestManyGoroutinesUseOneCacheAndOneReader(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		data := pattern(200_000)
		cacheImage(t, cache, "shared", data)
		reader := must(cache.OpenForRead("shared"))(t)
		defer reader.Close()
		stream := must(cache.OpenStream("streamed", bytes.NewReader(data)))(t)
		defer stream.Close()
		var all sync.WaitGroup
		for i := 0; i < 32; i++ {
			all.Add(1)
			go func(i int) {
				defer all.Done()
				id, part := string(rune('A'+i)), make([]byte, 5000)
				writer, err := cache.BeginWrite(id)
				if err == nil {
					_, err = writer.Write(data)
				}
				if err == nil {
					err = writer.Commit()
				}
				for _, from := range []io.ReaderAt{reader, stream} {
					if err == nil {
						_, err = from.ReadAt(part, int64(i)*5000)
					}
					if err == nil && !bytes.Equal(part, data[i*5000:i*5000+5000]) {
						err = errors.New("another goroutine's bytes")
					}
				}
				if err != nil {
					t.Error(err)
				}
			}(i)
		}
		all.Wait()
		equal(t, "cached", len(must(cache.ListCached())(t)), 33)
	})
}
