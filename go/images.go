// What is cached, being cached, queued or invalid: single answers and lists.

package imagecache

// #include <image_cache.h>
import "C"

import (
	"context"
	"errors"
	"math"
	"time"
)

// An Image is an entry of a list.
type Image struct {
	ID           string
	Size         uint64    // its length in bytes; of an incomplete or invalid image, how many bytes are there
	Allocated    uint64    // what it takes up on the disk, in bytes: less than Size if it has holes; 0 for a queued image
	Hits         uint64    // how often it was read
	LastAccessed time.Time // when it was last opened, or committed if it never was; of a queued image, when it was queued
	LastModified time.Time // when it was committed, queued, or written last
	Digest       string    // at its commit, as "algorithm:hex"; "" if there is none
	Reason       string    // why it is invalid, or who has the incomplete one; else ""
	Process      int       // of an incomplete image's writer, or of the stream that fetched last; 0 if unknown
	Since        time.Time // when its writing or fetch began; zero if unknown
	Pinned       bool
	PinnedUntil  time.Time // zero: as long as a process lives, or unknown
}

// imageOf copies an entry, which the library frees with its list.
func imageOf(entry *C.image_cache_entry_t) Image {
	image := Image{
		ID:           C.GoString(entry.image_id),
		Size:         uint64(entry.size),
		Allocated:    uint64(entry.allocated),
		Hits:         uint64(entry.hits),
		LastAccessed: time.Unix(0, int64(entry.last_accessed)),
		LastModified: time.Unix(0, int64(entry.last_modified)),
		Digest:       C.GoString(entry.digest),
		Reason:       C.GoString(entry.reason),
		Process:      int(entry.process),
		Pinned:       entry.pinned_until != 0,
	}
	if entry.since != 0 {
		image.Since = time.Unix(0, int64(entry.since))
	}
	if image.Pinned && entry.pinned_until != math.MaxInt64 {
		image.PinnedUntil = time.Unix(0, int64(entry.pinned_until))
	}
	return image
}

type lister func(*C.image_cache_t, **C.image_cache_list_t, *C.image_cache_error_t) C.image_cache_status_t

func (c *Cache) list(function lister) ([]Image, error) {
	var list *C.image_cache_list_t
	err := c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return function(cache, &list, failure)
	})
	if err != nil {
		return nil, err
	}
	defer C.image_cache_list_free(list)
	var images []Image
	var entry *C.image_cache_entry_t
	for C.image_cache_list_next(list, &entry) {
		images = append(images, imageOf(entry))
	}
	return images, nil
}

// ListCached lists the cached images, ordered by id.
func (c *Cache) ListCached() ([]Image, error) {
	return c.list(func(cache *C.image_cache_t, list **C.image_cache_list_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_list_cached(cache, list, failure)
	})
}

// ListQueued lists the queued images, oldest first.
func (c *Cache) ListQueued() ([]Image, error) {
	return c.list(func(cache *C.image_cache_t, list **C.image_cache_list_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_list_queued(cache, list, failure)
	})
}

// ListIncomplete lists the images that are being cached, ordered by id. Reason says who has each.
func (c *Cache) ListIncomplete() ([]Image, error) {
	return c.list(func(cache *C.image_cache_t, list **C.image_cache_list_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_list_incomplete(cache, list, failure)
	})
}

// ListInvalid lists the images whose fetch has failed, ordered by id. Reason says why. They are kept until Clean.
func (c *Cache) ListInvalid() ([]Image, error) {
	return c.list(func(cache *C.image_cache_t, list **C.image_cache_list_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_list_invalid(cache, list, failure)
	})
}

// Image is a cached image as ListCached shows it. This is neither an access nor a hit.
func (c *Cache) Image(id string) (Image, error) {
	image, err := imageID(id)
	if err != nil {
		return Image{}, err
	}
	images, err := c.list(func(cache *C.image_cache_t, list **C.image_cache_list_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_get_image(cache, image, list, failure)
	})
	if err != nil || len(images) == 0 {
		return Image{}, err
	}
	return images[0], nil
}

// IsCached says whether an image is cached.
func (c *Cache) IsCached(id string) (bool, error) {
	var answer C.bool
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_is_cached(cache, image, &answer, failure)
	})
	return bool(answer), err
}

// IsBeingCached says whether there is an incomplete file of an image, its writer alive or dead.
func (c *Cache) IsBeingCached(id string) (bool, error) {
	var answer C.bool
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_is_being_cached(cache, image, &answer, failure)
	})
	return bool(answer), err
}

// IsQueued says whether an image is in the queue.
func (c *Cache) IsQueued(id string) (bool, error) {
	var answer C.bool
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_is_queued(cache, image, &answer, failure)
	})
	return bool(answer), err
}

// IsCacheable says whether an image is neither cached nor being cached, and its name is free. To learn whether it can be written,
// begin to write it.
func (c *Cache) IsCacheable(id string) (bool, error) {
	var answer C.bool
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_is_cacheable(cache, image, &answer, failure)
	})
	return bool(answer), err
}

// longestWait is how long WaitCached takes to see that its context has ended.
const longestWait = 250 * time.Millisecond

// WaitCached waits until an image is cached. It returns false at once if nobody caches the image, and ErrTimedOut, with the error of
// the context, when that ends first. It looks at least once.
func (c *Cache) WaitCached(ctx context.Context, id string) (bool, error) {
	for {
		wait := longestWait
		if ctx.Done() == nil {
			wait = math.MaxInt64
		} else if ctx.Err() != nil {
			wait = 0
		} else if deadline, has := ctx.Deadline(); has {
			// The deadline may have passed before the context has ended.
			if left := time.Until(deadline); left < time.Millisecond {
				wait = time.Millisecond
			} else if left < wait {
				wait = left
			}
		}
		var cached C.bool
		err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_wait_cached(cache, image, C.uint64_t(whole(wait, time.Millisecond)), &cached, failure)
		})
		if !errors.Is(err, ErrTimedOut) {
			return bool(cached), err
		}
		if ctx.Err() != nil {
			return false, because(err, ErrTimedOut, ctx.Err())
		}
	}
}

// Size is the size of all cached images in bytes.
func (c *Cache) Size() (uint64, error) {
	var bytes C.uint64_t
	err := c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_get_cache_size(cache, &bytes, failure)
	})
	return uint64(bytes), err
}

// ImageSize is the length of a cached image in bytes.
func (c *Cache) ImageSize(id string) (uint64, error) {
	var bytes C.uint64_t
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_get_image_size(cache, image, &bytes, failure)
	})
	return uint64(bytes), err
}

// HitCount is how often an image was read since it was cached; 0 if it is not cached.
func (c *Cache) HitCount(id string) (uint64, error) {
	var hits C.uint64_t
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_get_hit_count(cache, image, &hits, failure)
	})
	return uint64(hits), err
}
