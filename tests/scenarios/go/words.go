// Words: escapes, data words ("stars:1024"), and fingerprints of data.

package main

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

const maxData = 64 << 20

// unescape decodes a word; false if an escape is malformed.
func unescape(word string) (string, bool) {
	if word == "%" {
		return "", true
	}
	var text strings.Builder
	for i := 0; i < len(word); i++ {
		if word[i] != '%' {
			text.WriteByte(word[i])
			continue
		}
		if i+2 >= len(word) || strings.ToUpper(word[i+1:i+3]) != word[i+1:i+3] {
			return "", false
		}
		value, err := strconv.ParseUint(word[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		text.WriteByte(byte(value))
		i += 2
	}
	return text.String(), true
}

// escape escapes a text for the transcript.
func escape(text string) string {
	var escaped strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] <= ' ' || text[i] > '~' || text[i] == '%' {
			fmt.Fprintf(&escaped, "%%%02X", text[i])
		} else {
			escaped.WriteByte(text[i])
		}
	}
	return escaped.String()
}

// list joins items with one space.
func list(items []string) string {
	if len(items) == 0 {
		return "none"
	}
	return strings.Join(items, " ")
}

func parseNumber(digits string) (uint64, bool) {
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil
}

func isData(word string) bool {
	for _, prefix := range []string{"stars:", "zeros:", "text:", "pattern:"} {
		if strings.HasPrefix(word, prefix) {
			return true
		}
	}
	return false
}

// generate makes the bytes of a data word; false if there is no such data.
func generate(word string) ([]byte, bool) {
	kind, rest, _ := strings.Cut(word, ":")
	switch kind {
	case "text":
		return []byte(rest), isData(word)
	case "stars":
		return repeat(rest, '*')
	case "zeros":
		return repeat(rest, 0)
	case "pattern":
		seed, length, _ := strings.Cut(rest, ":")
		state, isNumber := parseNumber(seed)
		bytes, valid := repeat(length, 0)
		// The top bytes of a 64-bit linear congruential generator (Knuth's MMIX).
		for i := range bytes {
			state = state*6364136223846793005 + 1442695040888963407
			bytes[i] = byte(state >> 56)
		}
		return bytes, valid && isNumber
	}
	return nil, false
}

func repeat(digits string, value byte) ([]byte, bool) {
	length, valid := parseNumber(digits)
	if !valid || length > maxData {
		return nil, false
	}
	bytes := make([]byte, length)
	for i := range bytes {
		bytes[i] = value
	}
	return bytes, true
}

// fingerprint is the length and the 64-bit FNV-1a hash of data.
func fingerprint(data []byte) string {
	hash := fnv.New64a()
	hash.Write(data)
	return fmt.Sprintf("bytes:%d:%016x", len(data), hash.Sum64())
}
