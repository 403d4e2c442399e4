// Tees over scripted sources, and prefetch with scripted fetches.

package main

import (
	"context"
	"fmt"
	"strings"

	"imagecache"
)

func openTee(s *scenario, words []argument) string {
	from := s.newSource(words[2:], false)
	if from == nil {
		return s.bad("an invalid step, or too many steps")
	}
	tee, err := s.selected.cache.OpenTee(words[1].text, from)
	if err == nil {
		from.reenter = func() error {
			_, err := tee.Read(make([]byte, 1))
			return err
		}
		s.handles[words[0].text] = &handle{tee: tee, source: from}
	}
	return s.reportValue(tee, err, "")
}

func defineFetch(s *scenario, words []argument) string {
	fetch := s.newSource(words[1:], true)
	if fetch == nil {
		return s.bad("an invalid step, or too many steps")
	}
	s.fetches[words[0].text] = fetch
	return "OK"
}

// writeTo writes a fetch's pieces.
func (s *source) writeTo(writer *imagecache.Writer) error {
	for _, expectation := range s.expectations {
		what, value, _ := strings.Cut(expectation, ":")
		set := func() error { return writer.ExpectDigest(what, value) }
		if size, _ := parseNumber(value); what == "size" {
			set = func() error { return writer.ExpectSize(size) }
		}
		if err := set(); err != nil {
			return err
		}
	}
	for _, piece := range s.pieces {
		if _, err := writer.Write(piece); err != nil {
			return err
		}
	}
	if s.last == "fail" {
		return errScript
	}
	return nil
}

func prefetch(s *scenario, _ []argument) string {
	var called []string
	result, err := s.selected.cache.Prefetch(context.Background(), func(_ context.Context, id string, writer *imagecache.Writer) error {
		called = append(called, escape(id))
		if fetch := s.fetches[id]; fetch != nil {
			return fetch.writeTo(writer)
		}
		return errScript // no fetch is scripted
	})
	return s.reportValue(result, err, fmt.Sprintf("%d fetched %d failed called %s", result.Fetched, result.Failed, list(called)))
}

var teeOperations = map[string]operation{
	"tee_open": {"@Nt*", openTee},
	"tee_expect_size": {"en", func(s *scenario, words []argument) string {
		return s.report(words[0].handle.tee.ExpectSize(words[1].number))
	}},
	"tee_expect_digest": {"ett", func(s *scenario, words []argument) string {
		return s.report(words[0].handle.tee.ExpectDigest(words[1].text, words[2].text))
	}},
	"tee_read": {"en", func(s *scenario, words []argument) string {
		return s.readOnce(words[1].number, words[0].handle.tee.Read)
	}},
	"tee_read_all": {"en", func(s *scenario, words []argument) string {
		return s.reportReads(words[1].number, words[0].handle.source, words[0].handle.tee.Read)
	}},
	"tee_is_caching":   {"e", func(_ *scenario, words []argument) string { return fmt.Sprint("OK ", words[0].handle.tee.IsCaching()) }},
	"tee_source_calls": {"e", func(_ *scenario, words []argument) string { return fmt.Sprint("OK ", words[0].handle.source.calls) }},
	"tee_close": {"e", func(s *scenario, words []argument) string {
		return s.report(s.end(words[0], words[0].handle.tee.Close))
	}},
	"fetch":    {"t*", defineFetch},
	"prefetch": {"@", prefetch},
}
