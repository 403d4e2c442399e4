// A cache in one directory: opened, and closed.

package imagecache

// #include "bridge.h"
import "C"

import (
	"fmt"
	"runtime/cgo"
)

// The version of the C header that the program was compiled with. Version is that of the library that was loaded.
const (
	VersionMajor = C.IMAGE_CACHE_VERSION_MAJOR
	VersionMinor = C.IMAGE_CACHE_VERSION_MINOR
	VersionPatch = C.IMAGE_CACHE_VERSION_PATCH
)

// Version is the version of the loaded library, for example "0.1.0".
func Version() string { return C.GoString(C.image_cache_version()) }

// VersionNumber is major << 16 | minor << 8 | patch of the loaded library.
func VersionNumber() uint32 { return uint32(C.image_cache_version_number()) }

// notOlder refuses a library that is older than the header: its structs are shorter than those that the program reads.
func notOlder(loaded uint32) error {
	if compiled := uint32(VersionMajor<<16 | VersionMinor<<8 | VersionPatch); loaded >= compiled {
		return nil
	}
	return &Error{
		Status: ErrUnsupported,
		Message: fmt.Sprintf("the loaded library is version %d.%d.%d, and older than version %d.%d.%d, whose header this program was compiled with",
			loaded>>16, loaded>>8&0xff, loaded&0xff, VersionMajor, VersionMinor, VersionPatch),
	}
}

// A Cache is a cache of images in one directory. Any number of goroutines may use it at once, and any number of processes may have
// the same directory open.
type Cache struct {
	handle    *C.image_cache_t
	callbacks *callbacks
	shared
}

// Open opens the cache in a directory, which it creates if its parent is there. The directory belongs to the cache: every file in it
// counts as an image. ErrUnsupported: among others, the loaded library is older than the header.
func Open(directory string, options ...Option) (*Cache, error) {
	if err := notOlder(VersionNumber()); err != nil {
		return nil, err
	}
	path, err := text("directory", directory)
	if err != nil {
		return nil, err
	}
	set := &settings{options: C.image_cache_options_new()}
	defer C.image_cache_options_free(set.options)
	for _, option := range options {
		if err := option(set); err != nil {
			return nil, err
		}
	}
	cache := &Cache{callbacks: &set.callbacks}
	cache.callbacks.retain()
	if err := cache.setCallbacks(set); err != nil {
		cache.callbacks.release()
		return nil, err
	}
	err = call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_open(path, set.options, &cache.handle, failure)
	})
	if err != nil {
		cache.callbacks.release()
		return nil, err
	}
	return cache, nil
}

// setCallbacks gives the library a number of the callbacks, if there are any.
func (c *Cache) setCallbacks(set *settings) error {
	if c.callbacks.log == nil && c.callbacks.inspect == nil {
		return nil
	}
	c.callbacks.refusals = make(map[string]error)
	c.callbacks.number = cgo.NewHandle(c.callbacks)
	number := C.uintptr_t(c.callbacks.number)
	if c.callbacks.log != nil {
		err := call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_go_set_log(set.options, number, failure)
		})
		if err != nil {
			return err
		}
	}
	if c.callbacks.inspect == nil {
		return nil
	}
	return call(func(failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_go_set_inspector(set.options, number, failure)
	})
}

// Close ends the cache: it writes the hits that were collected, and syncs what was committed without durability. It waits for calls
// in progress, so it must not be called by a callback of this cache. Readers, writers, tees and streams go on, and need their own
// ends.
//
// It returns the first panic of the log function, if there was one.
func (c *Cache) Close() error {
	if !c.shared.end() {
		return closed("cache")
	}
	C.image_cache_close(c.handle)
	c.handle = nil
	c.callbacks.mutex.Lock()
	failed := c.callbacks.failed
	c.callbacks.mutex.Unlock()
	c.callbacks.release()
	return failed
}

// call calls the library with the cache, unless that is closed.
func (c *Cache) call(function func(*C.image_cache_t, *C.image_cache_error_t) C.image_cache_status_t) error {
	if !c.begin() {
		return closed("cache")
	}
	defer c.done()
	return call(func(failure *C.image_cache_error_t) C.image_cache_status_t { return function(c.handle, failure) })
}

// callWith is call for a function of an image.
func (c *Cache) callWith(id string, function func(*C.image_cache_t, *C.char, *C.image_cache_error_t) C.image_cache_status_t) error {
	image, err := imageID(id)
	if err != nil {
		return err
	}
	return c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return function(cache, image, failure)
	})
}

// Driver is the driver in use: SQLite or Xattr; -1 after Close.
func (c *Cache) Driver() Driver {
	if !c.begin() {
		return -1
	}
	defer c.done()
	return Driver(C.image_cache_get_driver(c.handle))
}
