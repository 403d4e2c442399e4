// What a cache takes up, and what all processes have counted.

package imagecache

// #include <image_cache.h>
import "C"

import "time"

// A Usage is what a cache takes up on the disk, and its bounds: bytes on the disk, unless said otherwise.
type Usage struct {
	Cached     uint64 // by cached images
	Incomplete uint64 // by images that are being cached, with what is reserved for them
	Reserved   uint64 // the part of Incomplete that has no bytes yet
	Invalid    uint64 // by images whose fetch failed, or that were found damaged
	Deleted    uint64 // by deleted images that are still open; 0 with a soft limit
	Limit      uint64 // the directory's if it is hard, else that of this cache
	IsHard     bool   // whether the limit is hard
	Free       uint64 // what the file system has free for this user
	MinFree    uint64 // what stays free at least
	FreeInodes uint64 // how many inodes are free; 0 where the file system has no fixed number of them
	Pinned     uint64 // by pinned images, a part of Cached
}

// Usage is what the cache takes up now.
func (c *Cache) Usage() (Usage, error) {
	var usage C.image_cache_usage_t
	err := c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_get_usage(cache, &usage, C.sizeof_image_cache_usage_t, failure)
	})
	return Usage{
		Cached:     uint64(usage.cached),
		Incomplete: uint64(usage.incomplete),
		Reserved:   uint64(usage.reserved),
		Invalid:    uint64(usage.invalid),
		Deleted:    uint64(usage.deleted),
		Limit:      uint64(usage.limit),
		IsHard:     usage.is_hard != 0,
		Free:       uint64(usage.free),
		MinFree:    uint64(usage.min_free),
		FreeInodes: uint64(usage.free_inodes),
		Pinned:     uint64(usage.pinned),
	}, err
}

// Statistics are what a cache has, and what all processes have counted since it was created.
type Statistics struct {
	Images          uint64        // how many are cached
	Bytes           uint64        // their lengths
	Allocated       uint64        // what they take up on the disk, in bytes
	Limit           uint64        // in bytes: the directory's if it is hard, else that of this cache
	Free            uint64        // bytes that are free on the file system
	NextVictimIdle  time.Duration // how long ago the image that is evicted next was accessed; 0 if there is none
	Hits            uint64        // how often images were read
	Misses          uint64        // how often an image was not cached as a reader or stream was opened
	Commits         uint64        // images that were cached
	AbortedByCall   uint64        // images that were not cached, because the caller aborted
	ClosedEarly     uint64        // ... because a writer or tee was closed before the end
	WrongDigest     uint64        // ... because the bytes had another digest than expected
	WrongSize       uint64        // ... because there were more or fewer bytes than expected
	NoSpace         uint64        // ... because the disk was full
	Lost            uint64        // ... because the incomplete file was cleaned away or changed
	SourceFailed    uint64        // ... because the source or fetch function failed
	OtherFailures   uint64        // ... for another reason
	Evictions       uint64        // images that were evicted
	EvictedBytes    uint64        // their lengths
	StreamsFollowed uint64        // streams that got bytes that another one, or a writer, had fetched
	BytesNotFetched uint64        // how many bytes those were
	BytesServed     uint64        // bytes that readers and streams have returned
	Verified        uint64        // verifications that found an image intact
	FoundDamaged    uint64        // verifications that found an image damaged
}

// Statistics are those of now.
func (c *Cache) Statistics() (Statistics, error) {
	var now C.image_cache_statistics_t
	err := c.call(func(cache *C.image_cache_t, failure *C.image_cache_error_t) C.image_cache_status_t {
		return C.image_cache_get_statistics(cache, &now, C.sizeof_image_cache_statistics_t, failure)
	})
	return Statistics{
		Images:          uint64(now.images),
		Bytes:           uint64(now.bytes),
		Allocated:       uint64(now.allocated),
		Limit:           uint64(now.limit),
		Free:            uint64(now.free),
		NextVictimIdle:  time.Duration(now.next_victim_idle) * time.Second,
		Hits:            uint64(now.hits),
		Misses:          uint64(now.misses),
		Commits:         uint64(now.commits),
		AbortedByCall:   uint64(now.aborted_by_call),
		ClosedEarly:     uint64(now.closed_early),
		WrongDigest:     uint64(now.wrong_digest),
		WrongSize:       uint64(now.wrong_size),
		NoSpace:         uint64(now.no_space),
		Lost:            uint64(now.lost),
		SourceFailed:    uint64(now.source_failed),
		OtherFailures:   uint64(now.other_failures),
		Evictions:       uint64(now.evictions),
		EvictedBytes:    uint64(now.evicted_bytes),
		StreamsFollowed: uint64(now.streams_followed),
		BytesNotFetched: uint64(now.bytes_not_fetched),
		BytesServed:     uint64(now.bytes_served),
		Verified:        uint64(now.verified),
		FoundDamaged:    uint64(now.found_damaged),
	}, err
}
