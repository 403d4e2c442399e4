// What errors.Is and errors.As find in an error.

package imagecache_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"imagecache"
)

func isClosed(err error) bool { return errors.Is(err, os.ErrClosed) }

func TestAnErrorIsItsStatusAndThatOfTheStandardLibrary(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		_, err := cache.OpenForRead("missing")
		wants(t, err, imagecache.ErrNotFound, fs.ErrNotExist)
		if errors.Is(err, imagecache.ErrIO) || errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.Errno(0)) {
			t.Errorf("%v is something else, too", err)
		}
		var failure *imagecache.Error
		if !errors.As(err, &failure) || !strings.Contains(failure.Message, "missing") {
			t.Errorf("%v has no message with the image's id", err)
		}
		_, err = cache.OpenForRead("no/slash")
		wants(t, err, imagecache.ErrInvalidImageID, fs.ErrInvalid)
		_, err = cache.OpenForRead("a\x00b")
		wants(t, err, imagecache.ErrInvalidImageID, fs.ErrInvalid)

		writer := must(cache.BeginWrite("1"))(t)
		_, err = cache.BeginWrite("1")
		wants(t, err, imagecache.ErrBeingCached)
		wants(t, writer.ExpectDigest("sha257", "00"), imagecache.ErrUnsupported)
		wants(t, writer.ExpectDigest("sha256", "00"), imagecache.ErrInvalidArgument, fs.ErrInvalid)
		wants(t, writer.ExpectDigest("sha256", "\x00"), imagecache.ErrInvalidArgument)
		check(t, writer.Commit())
		_, err = cache.BeginWrite("1")
		wants(t, err, imagecache.ErrAlreadyCached, fs.ErrExist)
		check(t, cache.Pin("1", "guest", imagecache.ForLife))
		wants(t, cache.DeleteCachedImage("1"), imagecache.ErrPinned)
		check(t, cache.Unpin("1", "guest"))
		wants(t, cache.Pin("1", "", imagecache.ForLife), imagecache.ErrInvalidArgument)
		wants(t, cache.Pin("1", "a\x00b", imagecache.ForLife), imagecache.ErrInvalidArgument)
		wants(t, cache.Pin("1", "guest", -1), imagecache.ErrInvalidArgument)
		wants(t, imagecache.ErrTimedOut, os.ErrDeadlineExceeded)
	})
}

func TestAFailedSystemCallIsItsErrno(t *testing.T) {
	_, err := imagecache.Open(filepath.Join(t.TempDir(), "missing", "cache"))
	wants(t, err, imagecache.ErrIO, syscall.ENOENT, fs.ErrNotExist)
	var failure *imagecache.Error
	if !errors.As(err, &failure) || failure.Errno != syscall.ENOENT {
		t.Errorf("%v has another errno", err)
	}
	_, err = imagecache.Open("a\x00b")
	wants(t, err, imagecache.ErrInvalidArgument)
}

func TestAnUnknownOptionIsRefused(t *testing.T) {
	for name, option := range map[string]imagecache.Option{
		"driver":      imagecache.WithDriver(99),
		"durability":  imagecache.WithDurability(99),
		"limit mode":  imagecache.WithLimitMode(99),
		"max pinned":  imagecache.WithMaxPinned(101),
		"min free":    imagecache.WithMinFree(0, 101),
		"inodes":      imagecache.WithMinFreeInodes(0, 101),
		"stall time":  imagecache.WithStallTime(-1),
		"database":    imagecache.WithDatabase("a/b"),
		"a NUL":       imagecache.WithDatabase("a\x00b"),
		"formats":     imagecache.WithFormats("raw", "floppy"),
		"other a NUL": imagecache.WithFormats("\x00"),
	} {
		if _, err := imagecache.Open(t.TempDir(), option); !errors.Is(err, imagecache.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAHandleThatHasEndedIsClosed(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		cacheImage(t, cache, "1", pattern(10))
		reader := must(cache.OpenForRead("1"))(t)
		writer := must(cache.BeginWrite("2"))(t)
		tee := must(cache.OpenTee("3", strings.NewReader("")))(t)
		stream := must(cache.OpenStream("4", strings.NewReader("")))(t)
		check(t, cache.Close())
		// The others outlive the cache.
		must(reader.Read(make([]byte, 1)))(t)
		must(writer.Write([]byte("1")))(t)
		check(t, reader.Close())
		check(t, writer.Commit())
		check(t, tee.Close())
		check(t, stream.Close())

		buffer := make([]byte, 1)
		only := func(_ any, err error) error { return err }
		ctx := context.Background()
		for name, err := range map[string]error{
			"cache close": cache.Close(), "is cached": only(cache.IsCached("1")), "list": only(cache.ListCached()),
			"prefetch": only(cache.Prefetch(ctx, func(context.Context, string, *imagecache.Writer) error { return nil })),
			"read":     only(reader.Read(buffer)), "read at": only(reader.ReadAt(buffer, 0)), "seek": only(reader.Seek(0, 0)),
			"file": only(reader.File()), "reader close": reader.Close(),
			"write": only(writer.Write(buffer)), "hole": writer.WriteHole(1), "commit": writer.Commit(),
			"tee read": only(tee.Read(buffer)), "tee close": tee.Close(),
			"stream read": only(stream.Read(buffer)), "stream read at": only(stream.ReadAt(buffer, 0)), "stream close": stream.Close(),
		} {
			if !isClosed(err) {
				t.Errorf("%s: %v, and should be os.ErrClosed", name, err)
			}
		}
		writer.Abort("does nothing")
		equal(t, "the driver", cache.Driver(), imagecache.Driver(-1))
		equal(t, "the path", reader.Path(), "")
		equal(t, "the descriptor", reader.Fd(), ^uintptr(0))
		equal(t, "the tee", tee.IsCaching(), false)
		equal(t, "the role", stream.Role(), imagecache.Alone)
		equal(t, "the bytes", stream.Available(), 0)
	})
}
