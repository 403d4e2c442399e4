// Bounds: deletion, eviction, clean-up, the limit and pins.

package imagecache

// #include <image_cache.h>
import "C"

import "time"

// DeleteCachedImage deletes a cached image, also if it is in use: its readers keep its bytes. An image that is not cached is no
// error. ErrPinned: it is pinned.
func (c *Cache) DeleteCachedImage(id string) error {
	return c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_delete_cached_image(cache, image, failure)
	})
}

// DeleteUnusedImage deletes a cached image unless it is in use, and then returns false.
func (c *Cache) DeleteUnusedImage(id string) (bool, error) {
	var deleted C.bool
	err := c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_delete_unused_image(cache, image, &deleted, failure)
	})
	return bool(deleted), err
}

// DeleteAllCachedImages deletes every image that is cached now, and returns how many. ErrPinned: the others were deleted.
func (c *Cache) DeleteAllCachedImages() (uint64, error) {
	var deleted C.uint64_t
	err := c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_delete_all_cached_images(cache, &deleted, failure)
	})
	return uint64(deleted), err
}

// A Pruned says what was evicted.
type Pruned struct {
	Images uint64
	Bytes  uint64
}

func (c *Cache) prune(function func(*C.image_cache_t, *C.uint64_t, *C.uint64_t, *C.image_cache_error_t) C.image_cache_status_t) (Pruned, error) {
	var images, bytes C.uint64_t
	err := c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return function(cache, &images, &bytes, failure)
	})
	return Pruned{Images: uint64(images), Bytes: uint64(bytes)}, err
}

// Prune evicts the least recently accessed images that are not in use, until the rest has at most the maximum size.
func (c *Cache) Prune() (Pruned, error) {
	return c.prune(func(cache *C.image_cache_t, images, bytes *C.uint64_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_prune(cache, images, bytes, failure)
	})
}

// PruneTo is Prune to another size, in bytes.
func (c *Cache) PruneTo(size uint64) (Pruned, error) {
	return c.prune(func(cache *C.image_cache_t, images, bytes *C.uint64_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_prune_to(cache, C.uint64_t(size), images, bytes, failure)
	})
}

// MakeRoom evicts until an image of so many bytes fits. ErrNoSpace: it cannot. The room is not reserved.
func (c *Cache) MakeRoom(size uint64) (Pruned, error) {
	return c.prune(func(cache *C.image_cache_t, images, bytes *C.uint64_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_make_room(cache, C.uint64_t(size), images, bytes, failure)
	})
}

// ConfiguredStallTime makes Clean use the stall time of the options.
const ConfiguredStallTime time.Duration = -1

// Clean removes invalid images, and incomplete files of dead writers, and of those that wrote nothing for the stall time. 0 removes
// all incomplete files. It returns how many files were removed.
func (c *Cache) Clean(stallTime time.Duration) (uint64, error) {
	seconds := C.int64_t(-1)
	if stallTime >= 0 {
		seconds = C.int64_t(whole(stallTime, time.Second))
	}
	var removed C.uint64_t
	err := c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_clean(cache, seconds, &removed, failure)
	})
	return uint64(removed), err
}

// SetMaxSize sets the maximum size in bytes: of the directory if its limit is hard, else of this cache.
func (c *Cache) SetMaxSize(bytes uint64) error {
	return c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_set_max_size(cache, C.uint64_t(bytes), failure)
	})
}

// ForLife makes a pin last as long as this process lives.
const ForLife time.Duration = 0

// Pin pins a cached image for a holder: it is neither evicted nor deleted until the pin ends, by no process. Parts of a second count
// as one. A second pin by the same holder replaces the time.
func (c *Cache) Pin(id, holder string, duration time.Duration) error {
	if duration < 0 {
		return invalid("a pin for %v", duration)
	}
	name, err := text("holder", holder)
	if err != nil {
		return err
	}
	return c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_pin(cache, image, name, C.uint64_t(whole(duration, time.Second)), failure)
	})
}

// Unpin removes the pin of a holder. A holder who has not pinned the image is no error.
func (c *Cache) Unpin(id, holder string) error {
	name, err := text("holder", holder)
	if err != nil {
		return err
	}
	return c.callWith(id, func(cache *C.image_cache_t, image *C.char, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_unpin(cache, image, name, failure)
	})
}
