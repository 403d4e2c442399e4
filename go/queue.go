// The queue of images, and their prefetch.

package imagecache

// #include "bridge.h"
import "C"

import (
	"context"
	"errors"
	"runtime/cgo"
)

// QueueImage appends an image to the queue. It is false if the image is queued, cached or being cached already.
func (c *Cache) QueueImage(id string) (bool, error) {
	var queued C.bool
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_queue_image(cache, image, &queued, failure)
	})
	return bool(queued), err
}

// DeleteQueuedImage removes an image from the queue. An image that is not queued is no error.
func (c *Cache) DeleteQueuedImage(id string) error {
	return c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_delete_queued_image(cache, image, failure)
	})
}

// DeleteAllQueuedImages empties the queue, and returns how many images were in it.
func (c *Cache) DeleteAllQueuedImages() (uint64, error) {
	var deleted C.uint64_t
	err := c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_delete_all_queued_images(cache, &deleted, failure)
	})
	return uint64(deleted), err
}

// A Fetch fetches an image for Prefetch: it writes the bytes, and can expect size and digests first. Prefetch commits the image if
// it returns nil, and aborts it otherwise. The writer is lent until it returns.
type Fetch func(ctx context.Context, id string, writer *Writer) error

// A Prefetched says what a Prefetch has done.
type Prefetched struct {
	Fetched uint64 // images that were fetched and cached
	Failed  uint64 // images that were not cached, and stay queued
	Errors  []FetchError
}

// A FetchError is what a Fetch returned for an image. An image that was fetched and then not as expected counts as failed, which the
// library logs, and has none.
type FetchError struct {
	ImageID string
	Err     error
}

func (f FetchError) Error() string { return f.ImageID + ": " + f.Err.Error() }

// Unwrap is what the Fetch returned.
func (f FetchError) Unwrap() error { return f.Err }

// prefetching is the state of one Prefetch.
type prefetching struct {
	ctx       context.Context
	function  Fetch
	callbacks *callbacks
	errors    []FetchError
	panicked  error
}

// Prefetch fetches and caches each image that is queued now, oldest first. A Fetch that fails is counted, and stops nothing.
//
// It returns an error if the queue cannot be read, if the context ends, which fails the rest of the images, or if a Fetch panics.
// The result is valid in the last two cases.
func (c *Cache) Prefetch(ctx context.Context, fetch Fetch) (Prefetched, error) {
	if fetch == nil {
		return Prefetched{}, invalid("the fetch function is nil")
	}
	state := &prefetching{ctx: ctx, function: fetch, callbacks: c.callbacks}
	handle := cgo.NewHandle(state)
	defer handle.Delete()
	var fetched, failed C.uint64_t
	err := c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_go_prefetch(cache, C.uintptr_t(handle), &fetched, &failed, failure)
	})
	result := Prefetched{Fetched: uint64(fetched), Failed: uint64(failed), Errors: state.errors}
	if err == nil && state.panicked != nil {
		err = state.panicked
	} else if err == nil && failed > 0 {
		err = ctx.Err()
	}
	return result, err
}

func (p *prefetching) fetch(id string, handle *C.image_cache_writer_t) error {
	writer := &Writer{handle: handle, callbacks: p.callbacks, id: id, isLent: true}
	err := guarded(func() error {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		return p.function(p.ctx, id, writer)
	})
	// The library ends it now.
	_ = writer.end("writer", func() error { return nil })
	if err == nil {
		return nil
	}
	p.errors = append(p.errors, FetchError{ImageID: id, Err: err})
	var panicked *PanicError
	if p.panicked == nil && errors.As(err, &panicked) {
		p.panicked = p.errors[len(p.errors)-1]
	}
	return err
}
