// Operations on a cache: open, close, limits, the queue, deletes, prune, clean, verify, pins.

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"imagecache"
)

// durationOf is a number of units; the longest time that the type has for a longer one.
func durationOf(number uint64, unit time.Duration) time.Duration {
	if number > uint64(math.MaxInt64/unit) {
		return math.MaxInt64
	}
	return time.Duration(number) * unit
}

// numberOf is the value's place in the names, or a number that no C constant has.
func numberOf(value string, names ...string) int32 {
	for i, name := range names {
		if name == value {
			return int32(i)
		}
	}
	return 99
}

// percentOf keeps a number that is too large for the type too large.
func percentOf(number uint64) uint32 {
	if number > math.MaxUint32 {
		return math.MaxUint32
	}
	return uint32(number)
}

// optionOf is the option of a word such as "max_size=5120"; nil if there is none.
func optionOf(word string) imagecache.Option {
	key, value, _ := strings.Cut(word, "=")
	number, isNumber := parseNumber(value)
	switch {
	case key == "limit":
		return imagecache.WithLimitMode(imagecache.LimitMode(numberOf(value, "soft", "hard")))
	case key == "database":
		return imagecache.WithDatabase(value)
	case key == "driver":
		return imagecache.WithDriver(imagecache.Driver(numberOf(value, "sqlite", "xattr", "xattr_or_sqlite")))
	case key == "formats":
		return imagecache.WithFormats(value)
	case key == "durability":
		return imagecache.WithDurability(imagecache.Durability(numberOf(value, "none", "full")))
	case !isNumber:
		return nil
	case key == "max_size":
		return imagecache.WithMaxSize(number)
	case key == "min_free":
		return imagecache.WithMinFree(number, 0)
	case key == "min_free_percent":
		return imagecache.WithMinFree(0, percentOf(number))
	case key == "min_free_inodes":
		return imagecache.WithMinFreeInodes(number, 0)
	case key == "max_pinned":
		return imagecache.WithMaxPinned(percentOf(number))
	case key == "stall_time":
		return imagecache.WithStallTime(durationOf(number, time.Second))
	}
	return nil
}

func open(s *scenario, words []argument) string {
	opened := &handle{}
	directory, hasDriver := s.pathOf(""), false
	options := []imagecache.Option{
		imagecache.WithDriver(s.driver),
		imagecache.WithLog(func(imagecache.LogLevel, string) { opened.logMessages.Add(1) }),
	}
	for _, word := range words[1:] {
		if strings.HasPrefix(word.text, "directory=") {
			directory = s.pathOf(strings.TrimPrefix(word.text, "directory="))
			continue
		}
		option := optionOf(word.text)
		if option == nil {
			return s.bad("no such option")
		}
		hasDriver = hasDriver || strings.HasPrefix(word.text, "driver=")
		options = append(options, option)
	}
	if !hasDriver && s.driver == imagecache.Xattr && !hasUserAttributes(s.root) {
		s.skipped = noUserAttributes
		return ""
	}
	var err error
	if opened.cache, err = imagecache.Open(directory, options...); err == nil {
		s.handles[words[0].text], s.selected = opened, opened
	}
	return s.reportValue(opened.cache, err, "")
}

func closeCache(s *scenario, words []argument) string {
	if words[0].handle == s.selected {
		s.selected = nil
	}
	return s.report(s.end(words[0], words[0].handle.cache.Close))
}

// end calls the function that ends a handle, whatever it returns.
func (s *scenario) end(word argument, function func() error) error {
	delete(s.handles, word.text)
	return function()
}

func pruned(s *scenario, pruned imagecache.Pruned, err error) string {
	return s.reportValue(pruned, err, fmt.Sprintf("%d images %d bytes", pruned.Images, pruned.Bytes))
}

// getUsage prints whole MiB: file systems differ in what they add to the bytes.
func getUsage(s *scenario, _ []argument) string {
	usage, err := s.selected.cache.Usage()
	mode := imagecache.SoftLimit
	if usage.IsHard {
		mode = imagecache.HardLimit
	}
	return s.reportValue(usage, err, fmt.Sprintf("%d,%d,%d,%d,%d %v %d", usage.Cached>>20, usage.Incomplete>>20,
		usage.Reserved>>20, usage.Invalid>>20, usage.Deleted>>20, mode, usage.Limit))
}

func clean(s *scenario, words []argument) string {
	stallTime := imagecache.ConfiguredStallTime
	if seconds := int64(words[0].number); seconds >= 0 {
		stallTime = durationOf(uint64(seconds), time.Second)
	}
	removed, err := s.selected.cache.Clean(stallTime)
	return s.reportNumber(removed, err, " removed")
}

func pin(s *scenario, words []argument) string {
	if words[2].number > math.MaxInt64 {
		return "INVALID_ARGUMENT" // a time that the type cannot have
	}
	return s.report(s.selected.cache.Pin(words[0].text, words[1].text, durationOf(words[2].number, time.Second)))
}

var errStopped = errors.New("stopped")

// verify verifies an image, or all with "". The options are rate=N, skip=N and stop=N: the N-th call of the progress function stops it.
func verify(s *scenario, id string, all bool, words []argument) string {
	var options imagecache.VerifyOptions
	var stop, calls uint64
	options.Progress = func(string, uint64, uint64) error {
		if calls++; calls == stop {
			return errStopped
		}
		return nil
	}
	for _, word := range words {
		key, value, _ := strings.Cut(word.text, "=")
		number, valid := parseNumber(value)
		switch {
		case !valid:
			return s.bad("not a number")
		case key == "rate":
			options.BytesPerSecond = number
		case key == "skip":
			options.SkipVerifiedWithin = durationOf(number, time.Second)
		case key == "stop":
			stop = number
		default:
			return s.bad("no such option")
		}
	}
	var result imagecache.Verified
	var err error
	if all {
		result, err = s.selected.cache.VerifyAll(context.Background(), options)
	} else {
		result, err = s.selected.cache.Verify(context.Background(), id, options)
	}
	stopped := ""
	if errors.Is(err, errStopped) && result.Stopped {
		stopped, err = " stopped", nil
	}
	return s.reportValue(result, err, fmt.Sprintf("%d verified %d failed %d unreadable %d without %d skipped %d bytes%s", result.Verified,
		result.Failed, result.Unreadable, result.WithoutDigest, result.Skipped, result.BytesRead, stopped))
}

var cacheOperations = map[string]operation{
	"open": {"N*", open},
	"use": {"c", func(s *scenario, words []argument) string {
		s.selected = words[0].handle
		return "OK"
	}},
	"close":      {"c", closeCache},
	"get_driver": {"@", func(s *scenario, _ []argument) string { return "OK " + s.selected.cache.Driver().String() }},
	"has_logged": {"@", func(s *scenario, _ []argument) string { return fmt.Sprint("OK ", s.selected.logMessages.Load() > 0) }},
	"queue_image": {"@t", func(s *scenario, words []argument) string {
		return s.reportBool(s.selected.cache.QueueImage(words[0].text))
	}},
	"delete_queued_image": {"@t", func(s *scenario, words []argument) string {
		return s.report(s.selected.cache.DeleteQueuedImage(words[0].text))
	}},
	"delete_all_queued_images": {"@", func(s *scenario, _ []argument) string {
		deleted, err := s.selected.cache.DeleteAllQueuedImages()
		return s.reportNumber(deleted, err, " deleted")
	}},
	"delete_cached_image": {"@t", func(s *scenario, words []argument) string {
		return s.report(s.selected.cache.DeleteCachedImage(words[0].text))
	}},
	"delete_unused_image": {"@t", func(s *scenario, words []argument) string {
		return s.reportBool(s.selected.cache.DeleteUnusedImage(words[0].text))
	}},
	"delete_all_cached_images": {"@", func(s *scenario, _ []argument) string {
		deleted, err := s.selected.cache.DeleteAllCachedImages()
		return s.reportNumber(deleted, err, " deleted")
	}},
	"set_max_size": {"@n", func(s *scenario, words []argument) string {
		return s.report(s.selected.cache.SetMaxSize(words[0].number))
	}},
	"get_usage": {"@", getUsage},
	"prune": {"@", func(s *scenario, _ []argument) string {
		result, err := s.selected.cache.Prune()
		return pruned(s, result, err)
	}},
	"prune_to": {"@n", func(s *scenario, words []argument) string {
		result, err := s.selected.cache.PruneTo(words[0].number)
		return pruned(s, result, err)
	}},
	"make_room": {"@n", func(s *scenario, words []argument) string {
		result, err := s.selected.cache.MakeRoom(words[0].number)
		return pruned(s, result, err)
	}},
	"clean": {"@s", clean},
	"pin":   {"@ttn", pin},
	"unpin": {"@tt", func(s *scenario, words []argument) string {
		return s.report(s.selected.cache.Unpin(words[0].text, words[1].text))
	}},
	"verify":     {"@t*", func(s *scenario, words []argument) string { return verify(s, words[0].text, false, words[1:]) }},
	"verify_all": {"@*", func(s *scenario, words []argument) string { return verify(s, "", true, words) }},
}
