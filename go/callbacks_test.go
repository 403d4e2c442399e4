// Functions that the library calls: their errors and panics reach the caller, and they can use the cache.

package imagecache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"imagecache"
)

type panics struct{}

func (panics) Read([]byte) (int, error) { panic("the store is gone") }

func (panics) ReadAt([]byte, int64) (int, error) { panic("the store is gone") }

// isPanic fails the test unless the error is a panic with that value and a stack.
func isPanic(t *testing.T, what string, err error) {
	t.Helper()
	var panicked *imagecache.PanicError
	if !errors.As(err, &panicked) {
		t.Errorf("%s: %v is no panic", what, err)
	} else if panicked.Value != "the store is gone" || !bytes.Contains(panicked.Stack, []byte("callbacks_test.go")) {
		t.Errorf("%s: %v has another value or stack: %s", what, err, panicked.Stack)
	}
}

func TestAPanicOfACallbackIsAnErrorOfTheCall(t *testing.T) {
	inspector := imagecache.WithInspector(func(id string, _ *os.File, _ int64) error {
		if id == "inspected" {
			panic("the store is gone")
		}
		return nil
	})
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		ctx := context.Background()
		cacheImage(t, cache, "1", pattern(1000))
		tee := must(cache.OpenTee("2", panics{}))(t)
		_, err := tee.Read(make([]byte, 1))
		isPanic(t, "tee", err)
		wants(t, err, imagecache.ErrSource)
		check(t, tee.Close())
		stream := must(cache.OpenStream("3", panics{}))(t)
		_, err = stream.Read(make([]byte, 1))
		isPanic(t, "stream", err)
		_, err = stream.ReadAt(make([]byte, 1), 0)
		isPanic(t, "stream, at an offset", err)
		check(t, stream.Close())

		must(cache.QueueImage("4"))(t)
		must(cache.QueueImage("5"))(t)
		result, err := cache.Prefetch(ctx, func(_ context.Context, id string, writer *imagecache.Writer) error {
			if id == "4" {
				panic("the store is gone")
			}
			_, err := writer.Write(pattern(10))
			return err
		})
		isPanic(t, "prefetch", err)
		equal(t, "fetched", result.Fetched, 1)
		equal(t, "failed", result.Failed, 1)

		progress := func(uint64, uint64) error { panic("the store is gone") }
		file := must(os.Create(filepath.Join(t.TempDir(), "file")))(t)
		defer file.Close()
		_, err = cache.Export(ctx, "1", file, imagecache.ExportOptions{Progress: progress})
		isPanic(t, "export", err)
		must(file.WriteAt(pattern(10), 0))(t)
		reading := must(os.Open(file.Name()))(t)
		defer reading.Close()
		_, err = cache.Import(ctx, "6", reading, imagecache.ImportOptions{Progress: progress})
		isPanic(t, "import", err)
		_, err = cache.Import(ctx, "inspected", reading, imagecache.ImportOptions{})
		isPanic(t, "inspector of an import", err)
		writer := must(cache.BeginWrite("inspected"))(t)
		err = writer.Commit()
		isPanic(t, "inspector of a commit", err)
		wants(t, err, imagecache.ErrRefused)
		verified, err := cache.VerifyAll(ctx, imagecache.VerifyOptions{Progress: func(string, uint64, uint64) error { panic("the store is gone") }})
		isPanic(t, "verify", err)
		equal(t, "stopped", verified.Stopped, true)
	}, inspector)
}

func TestAMissingContextIsAnErrorOfTheCall(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		var none context.Context
		cacheImage(t, cache, "1", pattern(10))
		must(cache.QueueImage("2"))(t)
		var panicked *imagecache.PanicError
		_, err := cache.Prefetch(none, func(context.Context, string, *imagecache.Writer) error { return nil })
		equal(t, "prefetch", errors.As(err, &panicked), true)
		_, err = cache.VerifyAll(none, imagecache.VerifyOptions{Progress: func(string, uint64, uint64) error { return nil }})
		equal(t, "verify", errors.As(err, &panicked), true)
	})
}

func TestAPanicOfTheLogFunctionIsReturnedByClose(t *testing.T) {
	log := imagecache.WithLog(func(imagecache.LogLevel, string) { panic("the store is gone") })
	cache := must(imagecache.Open(t.TempDir(), log))(t)
	cacheImage(t, cache, "1", pattern(10))
	must(cache.PruneTo(0))(t) // an eviction is logged
	isPanic(t, "close", cache.Close())
}

func TestALogFunctionGetsTheMessages(t *testing.T) {
	var mutex sync.Mutex
	var messages []string
	log := imagecache.WithLog(func(level imagecache.LogLevel, message string) {
		mutex.Lock()
		defer mutex.Unlock()
		messages = append(messages, level.String()+": "+message)
	})
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		messages = nil
		cacheImage(t, cache, "evicted image", pattern(10))
		must(cache.PruneTo(0))(t)
		if !strings.Contains(strings.Join(messages, "\n"), "evicted image") || !strings.HasPrefix(messages[0], "info: ") {
			t.Errorf("the log is %q", messages)
		}
	}, log)
}

func TestAnInspectorReadsTheImageAndItsErrorIsThatOfTheCommit(t *testing.T) {
	tooLong := errors.New("an image of the wrong length\x00" + strings.Repeat("ü", 1000))
	var cache *imagecache.Cache
	inspector := imagecache.WithInspector(func(id string, file *os.File, size int64) error {
		data, err := io.ReadAll(file)
		if err != nil || int64(len(data)) != size {
			t.Errorf("%d bytes of %d: %v", len(data), size, err)
		}
		if _, err := cache.IsCached(id); err != nil { // it may use the cache
			t.Error(err)
		}
		if size == 3 {
			return tooLong
		}
		return nil
	})
	withEachDriver(t, func(t *testing.T, opened *imagecache.Cache) {
		cache = opened
		cacheImage(t, cache, "good", []byte("good"))
		writer := must(cache.BeginWrite("bad"))(t)
		must(writer.Write([]byte("bad")))(t)
		err := writer.Commit()
		wants(t, err, imagecache.ErrRefused, tooLong)
		invalid := must(cache.ListInvalid())(t)
		if len(invalid) != 1 || !strings.Contains(invalid[0].Reason, "wrong length") || !strings.Contains(invalid[0].Reason, "üü") {
			t.Errorf("invalid: %v", invalid)
		}
		// A tee delivers all bytes of what is refused.
		tee := must(cache.OpenTee("other", strings.NewReader("bad")))(t)
		defer tee.Close()
		equal(t, "delivered", string(must(io.ReadAll(tee))(t)), "bad")
		equal(t, "caching", tee.IsCaching(), false)
	}, inspector)
}

func TestASourceThatUsesItsTeeOrStreamGetsAnError(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		var tee *imagecache.Tee
		tee = must(cache.OpenTee("1", readerFunc(func(p []byte) (int, error) {
			wants(t, tee.Close(), imagecache.ErrInvalidArgument)
			return tee.Read(p)
		})))(t)
		_, err := tee.Read(make([]byte, 1))
		wants(t, err, imagecache.ErrSource)
		check(t, tee.Close())

		var stream *imagecache.Stream
		stream = must(cache.OpenStream("2", imagecache.ReaderAtFunc(func(p []byte, offset int64) (int, error) {
			wants(t, stream.Close(), imagecache.ErrInvalidArgument)
			return stream.ReadAt(p, offset)
		})))(t)
		_, err = stream.Read(make([]byte, 1))
		wants(t, err, imagecache.ErrSource)
		check(t, stream.Close())
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestASourceMayReadTheCache(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		data := pattern(100_000)
		cacheImage(t, cache, "base", data)
		base := must(cache.OpenForRead("base"))(t)
		defer base.Close()
		inner := must(cache.OpenTee("inner", base))(t)
		defer inner.Close()
		outer := must(cache.OpenTee("outer", inner))(t)
		defer outer.Close()
		same(t, "delivered", must(io.ReadAll(outer))(t), data)
		same(t, "inner", contents(t, cache, "inner"), data)
		same(t, "outer", contents(t, cache, "outer"), data)
	})
}
