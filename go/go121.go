//go:build go1.21

// What the standard library has since Go 1.21.

package imagecache

import (
	"context"
	"errors"
	"log/slog"
)

func init() { errUnsupported = errors.ErrUnsupported }

// WithSlog logs the messages of the library. It replaces WithLog.
func WithSlog(logger *slog.Logger) Option {
	levels := map[LogLevel]slog.Level{LogWarning: slog.LevelWarn, LogInfo: slog.LevelInfo, LogDebug: slog.LevelDebug}
	return WithLog(func(level LogLevel, message string) {
		known, isKnown := levels[level]
		if !isKnown {
			known = slog.LevelError
		}
		logger.Log(context.Background(), known, message)
	})
}
