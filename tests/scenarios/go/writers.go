// Operations on writers, imports, and the shorthand that caches a whole image.

package main

import (
	"context"
	"os"

	"imagecache"
)

func beginWrite(s *scenario, words []argument) string {
	writer, err := s.selected.cache.BeginWrite(words[1].text)
	if err == nil {
		s.handles[words[0].text] = &handle{writer: writer}
	}
	return s.reportValue(writer, err, "")
}

// write makes one call, and checks what io.Writer promises.
func (s *scenario) write(writer *imagecache.Writer, data []byte) error {
	n, err := writer.Write(data)
	if (err == nil) != (n == len(data)) && len(data) > 0 {
		panic("Write returned another count")
	}
	return err
}

func writeChunks(s *scenario, words []argument) string {
	data, piece := words[1].data, words[2].number
	if piece == 0 {
		return s.bad("pieces of 0 bytes")
	}
	for len(data) > 0 {
		length := len(data)
		if uint64(length) > piece {
			length = int(piece)
		}
		if err := s.write(words[0].handle.writer, data[:length]); err != nil {
			return s.report(err)
		}
		data = data[length:]
	}
	return "OK"
}

func abort(s *scenario, words []argument) string {
	reason := ""
	if len(words) > 1 {
		reason = words[1].text
	}
	delete(s.handles, words[0].text)
	words[0].handle.writer.Abort(reason)
	return "OK"
}

func cacheImage(s *scenario, words []argument) string {
	writer, err := s.selected.cache.BeginWrite(words[0].text)
	if err != nil {
		return s.report(err)
	}
	defer writer.Abort("a chunk failed")
	if err := s.write(writer, words[1].data); err != nil {
		return s.report(err)
	}
	return s.report(writer.Commit())
}

// scratch is a new file without a name.
func scratch() *os.File {
	file, err := os.CreateTemp("", "scenario-")
	if err != nil {
		panic(err)
	}
	os.Remove(file.Name())
	return file
}

func importImage(s *scenario, words []argument) string {
	file := scratch()
	defer file.Close()
	if _, err := file.Write(words[1].data); err != nil {
		panic(err)
	}
	how, err := s.selected.cache.Import(context.Background(), words[0].text, file, imagecache.ImportOptions{})
	return s.reportValue(how, err, "")
}

var writerOperations = map[string]operation{
	"begin_write": {"@Nt", beginWrite},
	"writer_expect_size": {"wn", func(s *scenario, words []argument) string {
		return s.report(words[0].handle.writer.ExpectSize(words[1].number))
	}},
	"writer_expect_digest": {"wtt", func(s *scenario, words []argument) string {
		return s.report(words[0].handle.writer.ExpectDigest(words[1].text, words[2].text))
	}},
	"write_chunk": {"wd", func(s *scenario, words []argument) string {
		return s.report(s.write(words[0].handle.writer, words[1].data))
	}},
	"write_chunks": {"wdn", writeChunks},
	"write_hole": {"wn", func(s *scenario, words []argument) string {
		return s.report(words[0].handle.writer.WriteHole(words[1].number))
	}},
	"commit": {"w", func(s *scenario, words []argument) string {
		return s.report(s.end(words[0], words[0].handle.writer.Commit))
	}},
	"abort":       {"w?t", abort},
	"cache_image": {"@td", cacheImage},
	"import":      {"@td", importImage},
}
