// Scripted sources, which tees, streams and prefetch share.

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
)

const maxPieces, maxExpectations = 64, 4

// A source returns pieces; of a fetch it also has the expectations on its writer.
type source struct {
	pieces       [][]byte
	expectations []string // "size:1024", "md5:..."
	last         string   // "fail", "more", "reenter", or "" for the end
	reenter      func() error
	position     uint64 // where a sequential read goes on
	calls        uint64
	bytes        uint64 // that it has returned
}

var errScript = errors.New("the script fails here")

// newSource makes a source of the words; nil if one is wrong. Steps of a fetch can be expectations.
func (s *scenario) newSource(words []argument, isFetch bool) *source {
	made := &source{}
	for _, word := range words {
		if !s.addStep(made, word.text, isFetch) {
			return nil
		}
	}
	return made
}

func (s *scenario) addStep(to *source, step string, isFetch bool) bool {
	kind, rest, hasColon := strings.Cut(step, ":")
	_, isNumber := parseNumber(rest)
	switch {
	case to.last != "":
		return false // nothing can follow the last step
	case step == "fail", !isFetch && (step == "more" || step == "reenter"):
		to.last = step
		return true
	case kind == "file" && hasColon:
		return s.addFile(to, rest)
	case isData(step):
		data, valid := generate(step)
		to.pieces = append(to.pieces, data)
		return valid && len(to.pieces) <= maxPieces
	}
	to.expectations = append(to.expectations, step)
	return isFetch && hasColon && len(to.expectations) <= maxExpectations && (kind != "size" || isNumber)
}

// addFile splits a file into pieces: PATH:PIECE.
func (s *scenario) addFile(to *source, parameters string) bool {
	colon := strings.LastIndex(parameters, ":")
	if colon < 0 {
		return false
	}
	size, err := strconv.Atoi(parameters[colon+1:])
	if err != nil || size < 1 || size > 1<<20 {
		return false
	}
	data, err := os.ReadFile(s.pathOf(parameters[:colon]))
	for len(data) > 0 {
		length := size
		if length > len(data) {
			length = len(data)
		}
		to.pieces = append(to.pieces, data[:length])
		data = data[length:]
	}
	return err == nil && len(to.pieces) <= maxPieces
}

// ReadAt returns a piece that is larger than the buffer over several calls. No call returns parts of two pieces.
func (s *source) ReadAt(p []byte, offset int64) (int, error) {
	s.calls++
	begin := int64(0)
	for _, piece := range s.pieces {
		end := begin + int64(len(piece))
		if offset < end {
			n := copy(p, piece[offset-begin:])
			s.bytes += uint64(n)
			return n, nil
		} else if len(piece) == 0 && offset == begin {
			return 0, io.EOF // an empty piece ends the source
		}
		begin = end
	}
	switch s.last {
	case "fail":
		return 0, errScript
	case "more":
		return len(p) + 1, nil
	case "reenter":
		// A read that succeeds within the source's own call ends the source, which no scenario expects.
		if err := s.reenter(); status(err) != "INVALID_ARGUMENT" {
			return 0, io.EOF
		}
		return 0, errScript
	}
	return 0, io.EOF
}

// Read reads on where the previous call ended.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.ReadAt(p, int64(s.position))
	s.position += uint64(n)
	return n, err
}

// reportReads prints the bytes of reads to the end or a failure, in either case. A failed source's own error must be in the failure.
func (s *scenario) reportReads(capacity uint64, from *source, read func([]byte) (int, error)) string {
	var all bytes.Buffer
	data, err := readAll(capacity, read)
	all.Write(data)
	text := s.report(err)
	if text == "SOURCE" && from.last != "more" && !errors.Is(err, errScript) {
		text += " ERROR_OF_THE_SOURCE_LOST"
	}
	return text + " " + fingerprint(all.Bytes())
}
