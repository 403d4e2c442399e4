// What the tests share: caches of both drivers in new directories.

package imagecache_test

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"syscall"
	"testing"

	"imagecache"
)

// withEachDriver runs a test on a new cache of each driver.
func withEachDriver(t *testing.T, test func(t *testing.T, cache *imagecache.Cache), options ...imagecache.Option) {
	t.Helper()
	for _, driver := range []imagecache.Driver{imagecache.SQLite, imagecache.Xattr} {
		t.Run(driver.String(), func(t *testing.T) {
			directory := t.TempDir()
			if driver == imagecache.Xattr && syscall.Setxattr(directory, "user.test", nil, 0) != nil {
				t.Skip("SKIPPED: no user attributes on this file system")
			}
			all := append([]imagecache.Option{imagecache.WithDriver(driver)}, options...)
			test(t, open(t, filepath.Join(directory, "cache"), all...))
		})
	}
}

// open opens a cache that the test closes, unless it was closed.
func open(t *testing.T, directory string, options ...imagecache.Option) *imagecache.Cache {
	t.Helper()
	cache := must(imagecache.Open(directory, options...))(t)
	t.Cleanup(func() {
		if err := cache.Close(); err != nil && !isClosed(err) {
			t.Error(err)
		}
	})
	return cache
}

// must is the value of a call that must succeed: must(call())(t).
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return value
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants fails the test unless the error is each of the wanted ones.
func wants(t *testing.T, err error, wanted ...error) {
	t.Helper()
	for _, want := range wanted {
		if !errors.Is(err, want) {
			t.Errorf("the error is %v, and should be %v", err, want)
		}
	}
}

func equal[T comparable](t *testing.T, what string, got, wanted T) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: %v, and should be %v", what, got, wanted)
	}
}

// cacheImage caches bytes.
func cacheImage(t *testing.T, cache *imagecache.Cache, id string, data []byte) {
	t.Helper()
	writer := must(cache.BeginWrite(id))(t)
	must(writer.Write(data))(t)
	check(t, writer.Commit())
}

// contents are the bytes of a cached image.
func contents(t *testing.T, cache *imagecache.Cache, id string) []byte {
	t.Helper()
	reader := must(cache.OpenForRead(id))(t)
	defer reader.Close()
	return must(io.ReadAll(reader))(t)
}

// pattern has no two equal parts of 256 bytes.
func pattern(length int) []byte {
	data := make([]byte, length)
	state := uint64(length)
	for i := range data {
		state = state*6364136223846793005 + 1442695040888963407
		data[i] = byte(state >> 56)
	}
	return data
}

func same(t *testing.T, what string, got, wanted []byte) {
	t.Helper()
	if !bytes.Equal(got, wanted) {
		t.Errorf("%s: %d bytes, and not the %d that were written", what, len(got), len(wanted))
	}
}
