// Limits, pins, lists, usage and statistics, and what is released at the end.

package imagecache_test

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"imagecache"
)

func TestPruneEvictsWhatIsNeitherPinnedNorInUse(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		for _, id := range []string{"pinned", "used", "old", "new"} {
			cacheImage(t, cache, id, pattern(1000))
		}
		used := must(cache.OpenForRead("used"))(t)
		defer used.Close()
		check(t, cache.Pin("pinned", "guest", 90*time.Minute))
		image := must(cache.Image("pinned"))(t)
		if until := time.Until(image.PinnedUntil); !image.Pinned || until <= 80*time.Minute || until > 91*time.Minute {
			t.Errorf("it is pinned until %v", image.PinnedUntil)
		}
		equal(t, "pruned", must(cache.Prune())(t), imagecache.Pruned{Images: 1, Bytes: 1000})
		equal(t, "old", must(cache.IsCached("old"))(t), false)
		equal(t, "pruned", must(cache.PruneTo(0))(t), imagecache.Pruned{Images: 1, Bytes: 1000})
		_, err := cache.MakeRoom(2000)
		wants(t, err, imagecache.ErrNoSpace)
		check(t, cache.SetMaxSize(10_000))
		equal(t, "room", must(cache.MakeRoom(2000))(t), imagecache.Pruned{})
		check(t, cache.Pin("pinned", "guest", imagecache.ForLife))
		image = must(cache.Image("pinned"))(t)
		equal(t, "pinned", image.Pinned && image.PinnedUntil.IsZero(), true)
		check(t, cache.Unpin("pinned", "guest"))
		equal(t, "pinned", must(cache.Image("pinned"))(t).Pinned, false)
		equal(t, "deleted", must(cache.DeleteUnusedImage("used"))(t), false)
		equal(t, "deleted", must(cache.DeleteAllCachedImages())(t), 2)
	}, imagecache.WithMaxSize(3000))
}

func TestUsageStatisticsAndLists(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		before := time.Now().Add(-time.Second)
		cacheImage(t, cache, "1", pattern(100_000))
		contents(t, cache, "1")
		_, err := cache.OpenForRead("2")
		wants(t, err, imagecache.ErrNotFound)
		writer := must(cache.BeginWrite("2"))(t)
		must(writer.Write(pattern(1000)))(t)
		incomplete := must(cache.ListIncomplete())(t)
		if len(incomplete) != 1 || incomplete[0].Process == 0 || incomplete[0].Since.Before(before) || incomplete[0].Reason == "" {
			t.Errorf("incomplete: %+v", incomplete)
		}
		equal(t, "being cached", must(cache.IsBeingCached("2"))(t), true)
		equal(t, "cacheable", must(cache.IsCacheable("2"))(t), false)
		writer.Abort("a reason\x00with a NUL")
		equal(t, "reason", must(cache.ListInvalid())(t)[0].Reason, "a reason with a NUL")

		image := must(cache.ListCached())(t)[0]
		if image.ID != "1" || image.Size != 100_000 || image.Hits != 1 || !strings.HasPrefix(image.Digest, "crc64nvme:") ||
			image.LastModified.Before(before) || image.LastAccessed.Before(image.LastModified) || !image.Since.IsZero() || image.Pinned {
			t.Errorf("cached: %+v", image)
		}
		equal(t, "the image", must(cache.Image("1"))(t), image)
		equal(t, "size", must(cache.Size())(t), 100_000)
		equal(t, "size", must(cache.ImageSize("1"))(t), 100_000)
		equal(t, "hits", must(cache.HitCount("1"))(t), 1)

		usage := must(cache.Usage())(t)
		if usage.Cached < 100_000 || usage.Invalid == 0 || usage.Limit != 1<<30 || usage.IsHard || usage.Free == 0 || usage.MinFree != 4096 {
			t.Errorf("usage: %+v", usage)
		}
		now := must(cache.Statistics())(t)
		equal(t, "images", now.Images, 1)
		equal(t, "bytes", now.Bytes, 100_000)
		equal(t, "hits", now.Hits, 1)
		equal(t, "misses", now.Misses, 1)
		equal(t, "commits", now.Commits, 1)
		equal(t, "aborts", now.AbortedByCall, 1)
		equal(t, "served", now.BytesServed, 100_000)
		equal(t, "limit", now.Limit, 1<<30)

		equal(t, "removed", must(cache.Clean(imagecache.ConfiguredStallTime))(t), 1)
		other := must(cache.BeginWrite("3"))(t)
		defer other.Abort("")
		equal(t, "removed", must(cache.Clean(0))(t), 1)
		wants(t, other.Commit(), imagecache.ErrLost)
	}, imagecache.WithMaxSize(1<<30), imagecache.WithMinFree(4096, 0), imagecache.WithStreaming(), imagecache.WithDurability(imagecache.DurabilityNone))
}

func TestAHardLimitIsOfTheDirectory(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		usage := must(cache.Usage())(t)
		equal(t, "hard", usage.IsHard, true)
		equal(t, "limit", usage.Limit, 1<<20)
		writer := must(cache.BeginWrite("1"))(t)
		defer writer.Abort("")
		wants(t, writer.ExpectSize(2<<20), imagecache.ErrNoSpace)
	}, imagecache.WithLimitMode(imagecache.HardLimit), imagecache.WithMaxSize(1<<20))
}

func TestADirectoryKeepsItsDriver(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "cache")
	open(t, directory)
	_, err := imagecache.Open(directory, imagecache.WithDatabase("other.db"))
	wants(t, err, imagecache.ErrInvalidArgument)
	cache := open(t, directory, imagecache.WithDatabase("other.db"), imagecache.WithChangeDriver())
	equal(t, "driver", cache.Driver(), imagecache.SQLite)
	equal(t, "driver", open(t, t.TempDir(), imagecache.WithDriver(imagecache.XattrOrSQLite)).Driver() != imagecache.XattrOrSQLite, true)
}

// collected is a source that reports when the garbage collector frees it.
type collected struct {
	*strings.Reader
	padding [64]byte
}

func TestNothingIsKeptAfterTheEnd(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		freed := make(chan string, 3)
		func() {
			source := &collected{Reader: strings.NewReader("abc")}
			runtime.SetFinalizer(source, func(*collected) { freed <- "tee" })
			tee := must(cache.OpenTee("1", source))(t)
			check(t, tee.Close())
			source = &collected{Reader: strings.NewReader("abc")}
			runtime.SetFinalizer(source, func(*collected) { freed <- "stream" })
			stream := must(cache.OpenStream("2", source))(t)
			check(t, stream.Close())
			// The log function lives as long as the last handle of its cache.
			source = &collected{Reader: strings.NewReader("abc")}
			runtime.SetFinalizer(source, func(*collected) { freed <- "log" })
			log := imagecache.WithLog(func(imagecache.LogLevel, string) { source.padding[0]++ })
			other := must(imagecache.Open(t.TempDir(), log))(t)
			writer := must(other.BeginWrite("1"))(t)
			check(t, other.Close())
			check(t, writer.Commit())
		}()
		for range [3]int{} {
			waitForCollection(t, freed)
		}
	})
}

// waitForCollection collects garbage until something was freed.
func waitForCollection(t *testing.T, freed chan string) {
	t.Helper()
	for i := 0; i < 200; i++ {
		runtime.GC()
		select {
		case <-freed:
			return
		default:
			runtime.Gosched()
		}
	}
	t.Error("something is kept after its end")
}
