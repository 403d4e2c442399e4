// Queries: single answers, lists, statistics.

package main

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"sort"
	"strings"
	"time"

	"imagecache"
)

func shownImage(image imagecache.Image) string {
	digest := image.Digest
	if digest == "" {
		digest = "-"
	} else if strings.HasPrefix(digest, "crc64nvme:") {
		digest = "crc"
	}
	return fmt.Sprintf("%s,%d,%d,%s", escape(image.ID), image.Size, image.Hits, digest)
}

func shownUncached(image imagecache.Image) string {
	reason := "-"
	if image.Reason != "" {
		reason = escape(image.Reason)
	}
	return fmt.Sprintf("%s,%d,%s", escape(image.ID), image.Size, reason)
}

func shownID(image imagecache.Image) string { return escape(image.ID) }

// reportList prints the images of a list.
func (s *scenario) reportList(images []imagecache.Image, err error, shown func(imagecache.Image) string) string {
	var items []string
	for _, image := range images {
		items = append(items, shown(image))
	}
	return s.reportValue(images, err, list(items))
}

func accessOrder(s *scenario, _ []argument) string {
	images, err := s.selected.cache.ListCached()
	sort.SliceStable(images, func(i, j int) bool { return images[i].LastAccessed.Before(images[j].LastAccessed) })
	return s.reportList(images, err, shownID)
}

func pinned(s *scenario, words []argument) string {
	image, err := s.selected.cache.Image(words[0].text)
	shown := "no"
	if image.Pinned && image.PinnedUntil.IsZero() {
		shown = "for_life"
	} else if image.Pinned {
		shown = fmt.Sprintf("%d min", int64(math.Ceil(time.Until(image.PinnedUntil).Minutes())))
	}
	return s.reportValue(image, err, shown)
}

// statistics prints fields by their C names, which are those of Go in lower case and with underscores.
func statistics(s *scenario, words []argument) string {
	known, err := s.selected.cache.Statistics()
	var items []string
	for _, word := range words {
		name := strings.ReplaceAll(word.text, "_", "")
		field := reflect.ValueOf(known).FieldByNameFunc(func(field string) bool { return strings.EqualFold(field, name) })
		switch {
		case !field.IsValid():
			return s.bad("no such field")
		case field.CanUint():
			items = append(items, fmt.Sprint(field.Uint()))
		default:
			items = append(items, fmt.Sprint(field.Int()/int64(time.Second)))
		}
	}
	return s.reportValue(known, err, list(items))
}

func waitCached(s *scenario, words []argument) string {
	ctx, cancel := context.WithTimeout(context.Background(), durationOf(words[1].number, time.Millisecond))
	defer cancel()
	return s.reportBool(s.selected.cache.WaitCached(ctx, words[0].text))
}

func yesOrNo(query func(*imagecache.Cache, string) (bool, error)) operation {
	return operation{"@t", func(s *scenario, words []argument) string {
		return s.reportBool(query(s.selected.cache, words[0].text))
	}}
}

func lists(query func(*imagecache.Cache) ([]imagecache.Image, error), shown func(imagecache.Image) string) operation {
	return operation{"@", func(s *scenario, _ []argument) string {
		images, err := query(s.selected.cache)
		return s.reportList(images, err, shown)
	}}
}

var imageOperations = map[string]operation{
	"is_cached":       yesOrNo((*imagecache.Cache).IsCached),
	"is_being_cached": yesOrNo((*imagecache.Cache).IsBeingCached),
	"is_queued":       yesOrNo((*imagecache.Cache).IsQueued),
	"is_cacheable":    yesOrNo((*imagecache.Cache).IsCacheable),
	"wait_cached":     {"@tn", waitCached},
	"get_cache_size": {"@", func(s *scenario, _ []argument) string {
		bytes, err := s.selected.cache.Size()
		return s.reportNumber(bytes, err, "")
	}},
	"get_image_size": {"@t", func(s *scenario, words []argument) string {
		bytes, err := s.selected.cache.ImageSize(words[0].text)
		return s.reportNumber(bytes, err, "")
	}},
	"get_hit_count": {"@t", func(s *scenario, words []argument) string {
		hits, err := s.selected.cache.HitCount(words[0].text)
		return s.reportNumber(hits, err, "")
	}},
	"get_image": {"@t", func(s *scenario, words []argument) string {
		image, err := s.selected.cache.Image(words[0].text)
		return s.reportValue(image, err, shownImage(image))
	}},
	"list_cached":     lists((*imagecache.Cache).ListCached, shownImage),
	"list_queued":     lists((*imagecache.Cache).ListQueued, shownID),
	"list_incomplete": lists((*imagecache.Cache).ListIncomplete, shownUncached),
	"list_invalid":    lists((*imagecache.Cache).ListInvalid, shownUncached),
	"access_order":    {"@", accessOrder},
	"pinned":          {"@t", pinned},
	"statistics":      {"@*", statistics},
}
