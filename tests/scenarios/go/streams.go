// Streams over scripted sources.

package main

import (
	"fmt"
	"time"
)

func openStream(s *scenario, words []argument) string {
	from := s.newSource(words[2:], false)
	if from == nil {
		return s.bad("an invalid step, or too many steps")
	}
	stream, err := s.selected.cache.OpenStream(words[1].text, from)
	if err == nil {
		from.reenter = func() error {
			_, err := stream.Read(make([]byte, 1))
			return err
		}
		s.handles[words[0].text] = &handle{stream: stream, source: from}
	}
	return s.reportValue(stream, err, "")
}

var streamOperations = map[string]operation{
	"stream_open": {"@Nt*", openStream},
	"stream_expect_size": {"mn", func(s *scenario, words []argument) string {
		return s.report(words[0].handle.stream.ExpectSize(words[1].number))
	}},
	"stream_expect_digest": {"mtt", func(s *scenario, words []argument) string {
		return s.report(words[0].handle.stream.ExpectDigest(words[1].text, words[2].text))
	}},
	"stream_set_timeout": {"mn", func(s *scenario, words []argument) string {
		return s.report(words[0].handle.stream.SetTimeout(durationOf(words[1].number, time.Millisecond)))
	}},
	"stream_set_source_timeout": {"mn", func(s *scenario, words []argument) string {
		return s.report(words[0].handle.stream.SetSourceTimeout(durationOf(words[1].number, time.Millisecond)))
	}},
	"stream_read": {"mn", func(s *scenario, words []argument) string {
		return s.readOnce(words[1].number, words[0].handle.stream.Read)
	}},
	"stream_read_all": {"mn", func(s *scenario, words []argument) string {
		return s.reportReads(words[1].number, words[0].handle.source, words[0].handle.stream.Read)
	}},
	"stream_read_at": {"mnn", func(s *scenario, words []argument) string {
		return s.readOnce(words[2].number, func(p []byte) (int, error) {
			return words[0].handle.stream.ReadPart(p, offsetOf(words[1].number))
		})
	}},
	"stream_role": {"m", func(_ *scenario, words []argument) string { return fmt.Sprint("OK ", words[0].handle.stream.Role()) }},
	"stream_available": {"m", func(_ *scenario, words []argument) string {
		return fmt.Sprint("OK ", words[0].handle.stream.Available())
	}},
	"stream_source_calls": {"m", func(_ *scenario, words []argument) string { return fmt.Sprint("OK ", words[0].handle.source.calls) }},
	"stream_source_bytes": {"m", func(_ *scenario, words []argument) string { return fmt.Sprint("OK ", words[0].handle.source.bytes) }},
	"stream_close": {"m", func(s *scenario, words []argument) string {
		return s.report(s.end(words[0], words[0].handle.stream.Close))
	}},
}
