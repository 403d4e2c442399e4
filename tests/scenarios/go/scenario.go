// One scenario: its handles, and the run of its file.

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"imagecache"
)

const maxHandles = 32

// A handle that the scenario has opened: one of the five is not nil.
type handle struct {
	cache  *imagecache.Cache
	writer *imagecache.Writer
	reader *imagecache.Reader
	tee    *imagecache.Tee
	stream *imagecache.Stream

	source      *source      // of a tee or stream
	logMessages atomic.Int64 // of a cache
}

type scenario struct {
	path     string
	driver   imagecache.Driver
	root     string // the scenario's own directory; its subdirectory "cache" is the cache
	handles  map[string]*handle
	selected *handle
	fetches  map[string]*source

	detail      string // why the operation failed, for standard error
	mismatches  int
	skipped     string // why the scenario cannot run here, or ""
	inNamespace bool
}

// runScenario runs a file in the scenario's own process.
func runScenario(driver imagecache.Driver, path, root string) int {
	s := &scenario{path: path, driver: driver, root: root, handles: map[string]*handle{}, fetches: map[string]*source{}}
	title := fmt.Sprintf("%s (%v)", nameOf(path), driver)
	fmt.Printf("scenario %s\n", title)
	text, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		s.mismatches++
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if line != "" && line[0] != '#' && s.skipped == "" {
			s.runLine(i+1, line)
		}
	}
	s.closeEverything()
	switch {
	case s.mismatches > 0:
		fmt.Printf("FAILED %s\n\n", title)
		return failed
	case s.skipped != "":
		fmt.Printf("SKIPPED %s: %s\n\n", title, s.skipped)
		return skipped
	}
	fmt.Printf("passed %s\n\n", title)
	return passed
}

// closeEverything closes the handles that are still open. Caches come last.
func (s *scenario) closeEverything() {
	for _, handle := range s.handles {
		switch {
		case handle.writer != nil:
			handle.writer.Abort("the scenario ended")
		case handle.reader != nil:
			handle.reader.Close()
		case handle.tee != nil:
			handle.tee.Close()
		case handle.stream != nil:
			handle.stream.Close()
		}
	}
	for _, handle := range s.handles {
		if handle.cache != nil {
			handle.cache.Close()
		}
	}
}

// pathOf resolves a path of the scenario, which is relative to the cache's directory.
func (s *scenario) pathOf(word string) string {
	// Not filepath.Join: it would resolve "..", and drop a final slash.
	return filepath.Join(s.root, "cache") + "/" + word
}

// isOpen says whether the handle is of the kind that a letter of a signature says.
func (h *handle) isOpen(letter byte) bool {
	switch letter {
	case 'c':
		return h.cache != nil
	case 'w':
		return h.writer != nil
	case 'r':
		return h.reader != nil
	case 'e':
		return h.tee != nil
	case 'm':
		return h.stream != nil
	}
	return false
}
