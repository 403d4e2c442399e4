//go:build go1.21

// What needs Go 1.21: log/slog, and errors.ErrUnsupported.

package imagecache_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"imagecache"
)

func TestSlogGetsTheMessages(t *testing.T) {
	var log bytes.Buffer
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		log.Reset()
		cacheImage(t, cache, "evicted image", pattern(10))
		must(cache.PruneTo(0))(t)
		if !strings.Contains(log.String(), "level=INFO") || !strings.Contains(log.String(), "evicted image") {
			t.Errorf("the log is %q", log.String())
		}
	}, imagecache.WithSlog(slog.New(slog.NewTextHandler(&log, nil))))
}

func TestAnUnsupportedRequestIsErrUnsupported(t *testing.T) {
	wants(t, imagecache.ErrUnsupported, errors.ErrUnsupported)
}
