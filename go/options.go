// Options of Open. Each calls one setter of the library, which checks its value.

package imagecache

// #include "bridge.h"
import "C"

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// A Driver stores the metadata of images: hits, last access, digests.
type Driver int32

// The drivers. A directory keeps the one that it was first opened with.
const (
	SQLite        Driver = C.IMAGE_CACHE_DRIVER_SQLITE          // a database in the directory (the default)
	Xattr         Driver = C.IMAGE_CACHE_DRIVER_XATTR           // extended attributes of the images
	XattrOrSQLite Driver = C.IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE // the one that the directory has, else xattr if it can
)

func (d Driver) String() string {
	return name(int(d), "Driver", "sqlite", "xattr", "xattr_or_sqlite")
}

// A LimitMode says whether the maximum size may be exceeded.
type LimitMode int32

// The modes of the limit.
const (
	SoftLimit LimitMode = C.IMAGE_CACHE_LIMIT_SOFT // what Prune prunes to (the default of a new directory)
	HardLimit LimitMode = C.IMAGE_CACHE_LIMIT_HARD // never exceeded; that of the directory, which keeps it
)

func (m LimitMode) String() string { return name(int(m), "LimitMode", "soft", "hard") }

// Durability says what a commit waits for.
type Durability int32

// The durabilities.
const (
	DurabilityNone Durability = C.IMAGE_CACHE_DURABILITY_NONE // the kernel writes the image back later
	DurabilityFull Durability = C.IMAGE_CACHE_DURABILITY_FULL // the image survives a power cut (the default)
)

func (d Durability) String() string { return name(int(d), "Durability", "none", "full") }

func name(number int, kind string, names ...string) string {
	if number < 0 || number >= len(names) {
		return fmt.Sprintf("%s(%d)", kind, number)
	}
	return names[number]
}

// An Option sets how Open opens a cache. The defaults are SQLite, 10 GiB with a soft limit, a stall time of 24 hours, full
// durability, no log, no inspection.
type Option func(*settings) error

type settings struct {
	options   *C.image_cache_options_t
	callbacks callbacks
}

type setter func(*C.image_cache_options_t, *C.image_cache_error_t) C.image_cache_status_t

func set(set setter) Option {
	return func(s *settings) error {
		return call(func(failure *C.image_cache_error_t) C.image_cache_status_t { return set(s.options, failure) })
	}
}

// WithDriver sets where metadata is stored.
func WithDriver(driver Driver) Option {
	return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_options_set_driver(options, C.int32_t(driver), failure)
	})
}

// WithChangeDriver lets Open change the driver of a directory, or the name of its database. The hits are lost.
func WithChangeDriver() Option {
	return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_options_set_change_driver(options, true, failure)
	})
}

// WithMaxSize sets the maximum size in bytes; 0 is valid.
func WithMaxSize(bytes uint64) Option {
	return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_options_set_max_size(options, C.uint64_t(bytes), failure)
	})
}

// WithLimitMode sets whether the maximum size may be exceeded.
func WithLimitMode(mode LimitMode) Option {
	return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_options_set_limit_mode(options, C.int32_t(mode), failure)
	})
}

// WithMinFree keeps so many bytes, and so many percent, of the file system free.
func WithMinFree(bytes uint64, percent uint32) Option {
	return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_options_set_min_free(options, C.uint64_t(bytes), C.uint32_t(percent), failure)
	})
}

// WithMinFreeInodes keeps so many inodes, and so many percent of them, free.
func WithMinFreeInodes(inodes uint64, percent uint32) Option {
	return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_options_set_min_free_inodes(options, C.uint64_t(inodes), C.uint32_t(percent), failure)
	})
}

// WithMaxPinned sets how many percent of the maximum size can be pinned. The default is 50.
func WithMaxPinned(percent uint32) Option {
	return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_options_set_max_pinned(options, C.uint32_t(percent), failure)
	})
}

// WithStallTime sets how long a writer may write nothing before its image counts as stalled. Parts of a second count as one.
func WithStallTime(stallTime time.Duration) Option {
	return func(s *settings) error {
		if stallTime < 0 {
			return invalid("a stall time of %v", stallTime)
		}
		return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_options_set_stall_time(options, C.uint64_t(whole(stallTime, time.Second)), failure)
		})(s)
	}
}

// WithDatabase sets the name of the SQLite index in the directory. The default is "cache.db".
func WithDatabase(fileName string) Option {
	return func(s *settings) error {
		name, err := text("database", fileName)
		if err != nil {
			return err
		}
		return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_options_set_database(options, name, failure)
		})(s)
	}
}

// WithDurability sets what a commit waits for.
func WithDurability(durability Durability) Option {
	return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_options_set_durability(options, C.int32_t(durability), failure)
	})
}

// WithStreaming drops written bytes from the page cache as they reach the disk.
func WithStreaming() Option {
	return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_options_set_streaming(options, true, failure)
	})
}

// WithSparse makes holes of runs of zeros, which take up no room on the disk.
func WithSparse() Option {
	return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_options_set_sparse(options, true, failure)
	})
}

// WithFormats accepts images of these formats only, and refuses those that are not self-contained: "raw", "qcow2", "vmdk", "vhd",
// "vhdx", "iso".
func WithFormats(formats ...string) Option {
	return func(s *settings) error {
		list, err := text("formats", strings.Join(formats, ","))
		if err != nil {
			return err
		}
		return set(func(options *C.image_cache_options_t, failure *C.image_cache_error_t) C.image_cache_status_t {
			return C.image_cache_options_set_formats(options, list, failure)
		})(s)
	}
}

// WithInspector calls a function for each image before it is published. It must not use the writer, tee or stream of that image.
func WithInspector(inspect Inspector) Option {
	return func(s *settings) error {
		s.callbacks.inspect = inspect
		return nil
	}
}

// WithLog calls a function with each message of the library, until the cache and all that it has opened are closed.
//
// It is called by several goroutines at once, while locks of the cache are held: it should not block, and must not use the cache.
// If it panics, Close of the cache returns that.
func WithLog(log func(level LogLevel, message string)) Option {
	return func(s *settings) error {
		s.callbacks.log = log
		return nil
	}
}

// A LogLevel says how serious a message is. The lowest number is the most serious.
type LogLevel int32

// The levels.
const (
	LogError   LogLevel = C.IMAGE_CACHE_LOG_ERROR   // a failure that the call could not return
	LogWarning LogLevel = C.IMAGE_CACHE_LOG_WARNING // a problem, despite which the cache continued
	LogInfo    LogLevel = C.IMAGE_CACHE_LOG_INFO    // for operators
	LogDebug   LogLevel = C.IMAGE_CACHE_LOG_DEBUG   // for developers of the library
)

func (l LogLevel) String() string {
	return name(int(l), "LogLevel", "none", "error", "warning", "info", "debug")
}

// whole is a time in whole units, rounded up; 0 for a negative one.
func whole(duration, unit time.Duration) uint64 {
	if duration < 0 {
		return 0
	}
	units := duration / unit
	if duration%unit > 0 && units < math.MaxInt64 {
		units++
	}
	return uint64(units)
}
