// Runs one line of a scenario: splits it into words, parses them, calls the operation, compares the result.

package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"imagecache"
)

// One word of a line, parsed as its operation's signature says.
type argument struct {
	text   string // the decoded word; of a path the whole path; of a new handle its name
	number uint64 // a negative one in two's complement
	data   []byte
	handle *handle
}

// An operation has a letter for each word:
//
//	t text   n number   s seconds, may be negative   d data   p path
//	c w r e m  a cache, writer, reader, tee or stream that is open   N  the name for a new handle
//	?        the words after it may be missing   *  any number of further words of text
//
// and begins with @ where it needs a selected cache. It returns the result for the transcript.
type operation struct {
	signature string
	run       func(s *scenario, words []argument) string
}

const badLine = "BAD_LINE"

func (s *scenario) bad(why string) string {
	s.detail = why
	return badLine
}

// status is the name of an error's status, without IMAGE_CACHE_ERROR_.
func status(err error) string {
	var failure *imagecache.Error
	if err == nil {
		return "OK"
	} else if !errors.As(err, &failure) {
		return "NO_STATUS"
	}
	text := strings.TrimPrefix(failure.Status.String(), "IMAGE_CACHE_ERROR_")
	if failure.Message == "" {
		text += " ERROR_NOT_FILLED"
	}
	return text
}

// report prints the status of a call without a value.
func (s *scenario) report(err error) string {
	if err != nil {
		s.detail = err.Error()
	}
	return status(err)
}

// reportValue prints the status of a call, and its value if it succeeded.
func (s *scenario) reportValue(value any, err error, shown string) string {
	text := s.report(err)
	if err == nil && shown != "" {
		return text + " " + shown
	} else if err != nil && !reflect.ValueOf(value).IsZero() {
		return text + " OUT_PARAMETER_NOT_CLEARED"
	}
	return text
}

func (s *scenario) reportBool(value bool, err error) string {
	return s.reportValue(value, err, fmt.Sprint(value))
}

func (s *scenario) reportNumber(value uint64, err error, unit string) string {
	return s.reportValue(value, err, fmt.Sprint(value)+unit)
}

// reportSystem is for a system call that the scenario itself made.
func (s *scenario) reportSystem(err error) string {
	if err != nil {
		s.detail = err.Error()
		return "FAILED"
	}
	return "OK"
}

// parse parses one word. It returns what is wrong with it, or "".
func (s *scenario) parse(letter byte, word *argument) string {
	valid := true
	switch letter {
	case 'd':
		if word.data, valid = generate(word.text); !valid {
			return "no such data"
		}
		return ""
	case 'n':
		if word.number, valid = parseNumber(word.text); !valid {
			return "not a number"
		}
	case 's':
		digits := strings.TrimPrefix(word.text, "-")
		if word.number, valid = parseNumber(digits); !valid {
			return "not a number"
		}
		if digits != word.text {
			word.number = -word.number
		}
	case 'p':
		word.text = s.pathOf(word.text)
	case 'c', 'w', 'r', 'e', 'm':
		handle := s.handles[word.text]
		if handle == nil || !handle.isOpen(letter) {
			return "no handle of that kind and name is open"
		}
		word.handle = handle
	case 'N':
		if s.handles[word.text] != nil || len(s.handles) == maxHandles {
			return "the name is in use, or there are too many handles"
		}
	}
	if strings.Contains(word.text, "\x00") && letter != '*' {
		return "a NUL byte in a text"
	}
	return ""
}

func (s *scenario) parseAll(signature string, words []argument) string {
	if strings.HasPrefix(signature, "@") {
		signature = signature[1:]
		if s.selected == nil {
			return "no cache is selected"
		}
	}
	at, optional := 0, false
	for i := 0; i < len(signature) && signature[i] != '*'; i++ {
		if signature[i] == '?' {
			optional = true
			continue
		}
		if at == len(words) && optional {
			return ""
		} else if at == len(words) {
			return "too few words"
		}
		if wrong := s.parse(signature[i], &words[at]); wrong != "" {
			return wrong
		}
		at++
	}
	if at < len(words) && !strings.HasSuffix(signature, "*") {
		return "too many words"
	}
	return ""
}

// operate runs a line's words, and returns the result.
func (s *scenario) operate(line string) string {
	var words []argument
	for _, word := range strings.Split(line, " ") {
		text, valid := unescape(word)
		if !valid || word == "" {
			return s.bad("words are separated by one space, and %XX is an escape")
		}
		words = append(words, argument{text: text})
	}
	for _, operations := range []map[string]operation{
		cacheOperations, imageOperations, writerOperations, readerOperations, teeOperations, streamOperations, fileOperations, diskOperations,
	} {
		if operation, known := operations[words[0].text]; known {
			if wrong := s.parseAll(operation.signature, words[1:]); wrong != "" {
				return s.bad(wrong)
			}
			return operation.run(s, words[1:])
		}
	}
	return s.bad("no such operation")
}

// normalise replaces data words by their fingerprints, as operations print them.
func normalise(expected string) string {
	words := strings.Split(expected, " ")
	for i, word := range words {
		if text, valid := unescape(word); valid && isData(text) {
			if data, valid := generate(text); valid {
				words[i] = fingerprint(data)
			}
		}
	}
	return strings.Join(words, " ")
}

func (s *scenario) runLine(number int, line string) {
	call, expected, hasExpectation := strings.Cut(line, " => ")
	s.detail = ""
	result := s.operate(call)
	if s.skipped != "" {
		fmt.Printf("%d %s => SKIPPED\n", number, call)
		return
	}
	fmt.Printf("%d %s => %s\n", number, call, result)
	if expected = normalise(expected); !hasExpectation {
		expected = "OK"
	}
	// A line without an expectation accepts any result whose first word is OK.
	matches := result == expected || !hasExpectation && strings.HasPrefix(result, "OK ")
	if result == badLine || !matches {
		s.mismatches++
		fmt.Printf("MISMATCH in line %d: expected %s\n", number, expected)
		fmt.Fprintf(os.Stderr, "%s:%d: expected %s, got %s: %s\n", s.path, number, expected, result, s.detail)
	}
}
