// Images copied to and from files.

package imagecache

// #include "bridge.h"
import "C"

import (
	"context"
	"fmt"
	"os"
)

// A CopyMethod says how an image is, or was, copied.
type CopyMethod int32

// The methods. CopyAny is for a call only, CopyInKernel for a result only.
const (
	CopyAny      CopyMethod = C.IMAGE_CACHE_COPY_ANY       // the fastest way that works (the default)
	CopyReflink  CopyMethod = C.IMAGE_CACHE_COPY_REFLINK   // the blocks on the disk are shared
	CopyBytes    CopyMethod = C.IMAGE_CACHE_COPY_BYTES     // through a buffer, no blocks are shared
	CopyInKernel CopyMethod = C.IMAGE_CACHE_COPY_IN_KERNEL // in the kernel
)

func (m CopyMethod) String() string {
	return name(int(m), "CopyMethod", "any", "reflink", "bytes", "in_kernel")
}

// ExportOptions are those of Export. The zero value has the defaults.
type ExportOptions struct {
	Method CopyMethod
	Sync   bool // the copy is on the disk at the return
	// Progress is called for each piece of up to 16 MiB, on the goroutine of the call. An error stops the call.
	Progress func(done, total uint64) error
}

// Export copies a cached image to a regular file that is open for writing, whose former bytes are lost. It returns how.
//
// If the context or Progress stops it, the error is ErrSource and theirs.
func (c *Cache) Export(ctx context.Context, id string, to *os.File, options ExportOptions) (CopyMethod, error) {
	var done C.int32_t
	err := c.copies(ctx, id, to, options.Progress, func(image *C.char, fd C.int, number C.uintptr_t) error {
		return c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_go_export(cache, image, fd, C.int32_t(options.Method), C.bool(options.Sync), number, &done, failure)
		})
	})
	return CopyMethod(done), err
}

// ImportOptions are those of Import. The zero value has the defaults.
type ImportOptions struct {
	Method      CopyMethod
	ExpectsSize bool // the image must have Size bytes
	Size        uint64
	// The expected digests in hexadecimal digits; "" for none.
	MD5, SHA256, SHA512 string
	// Progress is called for each piece of up to 16 MiB, on the goroutine of the call; total is 0 for a pipe without an expected size.
	// An error stops the call.
	Progress func(done, total uint64) error
}

// Import caches a file that is open for reading: a regular file or a block device from its beginning, a pipe or a socket to its end.
// It returns how it was copied. No two calls for one open file at once.
//
// If the context or Progress stops it, the error is ErrSource and theirs. What an inspector returned is in the error, too.
func (c *Cache) Import(ctx context.Context, id string, from *os.File, options ImportOptions) (CopyMethod, error) {
	digests := [3]*C.char{}
	for i, digest := range []string{options.MD5, options.SHA256, options.SHA512} {
		if digest != "" {
			var err error
			if digests[i], err = text("digest", digest); err != nil {
				return 0, err
			}
		}
	}
	var done C.int32_t
	err := c.callbacks.publishing(id, func() error {
		return c.copies(ctx, id, from, options.Progress, func(image *C.char, fd C.int, number C.uintptr_t) error {
			return c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
				return C.image_cache_go_import(cache, image, fd, C.int32_t(options.Method), C.bool(options.ExpectsSize),
					C.uint64_t(options.Size), digests[0], digests[1], digests[2], number, &done, failure)
			})
		})
	})
	return CopyMethod(done), err
}

// copies calls with the file's descriptor, which a Close of the file does not end meanwhile.
func (c *Cache) copies(ctx context.Context, id string, file *os.File, report func(done, total uint64) error,
	function func(image *C.char, fd C.int, number C.uintptr_t) error) error {
	image, err := imageID(id)
	if err != nil {
		return err
	}
	state := &progress{ctx: ctx}
	if report != nil {
		state.function = func(_ string, done, total uint64) error { return report(done, total) }
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		failure = state.with(func(number uintptr) error { return function(image, C.int(fd), C.uintptr_t(number)) })
	})
	if err != nil {
		return fmt.Errorf("%s: %w", file.Name(), os.ErrClosed) // there is no other reason
	}
	return because(failure, ErrSource, state.stopped)
}
