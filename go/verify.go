// Verification: the bytes on the disk against the digests of the commits.

package imagecache

// #include "bridge.h"
import "C"

import (
	"context"
	"time"
)

// VerifyOptions are those of Verify. The zero value has the defaults.
type VerifyOptions struct {
	BytesPerSecond     uint64        // at most so many bytes are read a second; 0: without a limit
	SkipVerifiedWithin time.Duration // images that were verified so lately are skipped; 0: none
	// Progress is called after each piece of up to 1 MiB, on the goroutine of the call. An error stops the call.
	Progress func(id string, done, total uint64) error
}

// A Verified says what a verification has found.
type Verified struct {
	Verified      uint64 // images that have their digests
	Failed        uint64 // images that are damaged, and were moved to invalid/ if that is permitted
	Unreadable    uint64 // images that could not be read, or were written to
	WithoutDigest uint64 // images for which no digest was stored; it is now
	Skipped       uint64 // images that were verified lately, are verified by others, or vanished
	BytesRead     uint64
	Stopped       bool // the context or Progress stopped it
}

// VerifyAll verifies all images. Damaged ones are counted, and no error. If the context or Progress stops it, it returns their
// error, with the result until then.
func (c *Cache) VerifyAll(ctx context.Context, options VerifyOptions) (Verified, error) {
	return c.verify(ctx, nil, options)
}

// Verify verifies one image, as VerifyAll.
func (c *Cache) Verify(ctx context.Context, id string, options VerifyOptions) (Verified, error) {
	image, err := imageID(id)
	if err != nil {
		return Verified{}, err
	}
	return c.verify(ctx, image, options)
}

func (c *Cache) verify(ctx context.Context, image *C.char, options VerifyOptions) (Verified, error) {
	if options.SkipVerifiedWithin < 0 {
		return Verified{}, invalid("SkipVerifiedWithin is %v", options.SkipVerifiedWithin)
	}
	state := &progress{ctx: ctx, function: options.Progress}
	var result C.image_cache_verify_result_t
	err := state.with(func(number uintptr) error {
		return c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_go_verify(cache, image, C.uint64_t(options.BytesPerSecond),
				C.uint64_t(whole(options.SkipVerifiedWithin, time.Second)), C.uintptr_t(number), &result, failure)
		})
	})
	if err == nil {
		err = state.stopped
	}
	return Verified{
		Verified:      uint64(result.verified),
		Failed:        uint64(result.failed),
		Unreadable:    uint64(result.unreadable),
		WithoutDigest: uint64(result.without_digest),
		Skipped:       uint64(result.skipped),
		BytesRead:     uint64(result.bytes_read),
		Stopped:       result.stopped != 0,
	}, err
}
