/* Growable bytes, their escapes and fingerprints, and the data words of a scenario ("stars:1024"). */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

static const uint64_t MAX_DATA = 64 * 1024 * 1024;

void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL) {
        fputs("scenario: out of memory\n", stderr);
        exit(2);
    }
    return memory;
}

/* Extends the buffer by `length` bytes and a NUL, and returns the position of the new bytes. */
static char *text_extend(struct text *text, size_t length)
{
    char *bytes = realloc(text->bytes, text->length + length + 1);
    if (bytes == NULL) {
        fputs("scenario: out of memory\n", stderr);
        exit(2);
    }
    char *end = bytes + text->length;
    text->bytes = bytes;
    text->length += length;
    bytes[text->length] = '\0';
    return end;
}

void text_append(struct text *text, const void *bytes, size_t length)
{
    char *end = text_extend(text, length);
    if (length > 0)
        memcpy(end, bytes, length);
}

void text_print(struct text *text, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *end = text_extend(text, (size_t)length);
    vsnprintf(end, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
}

void text_escape(struct text *text, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (byte <= ' ' || byte > '~' || byte == '%')
            text_print(text, "%%%02X", byte);
        else
            text_append(text, &byte, 1);
    }
}

void text_fingerprint(struct text *text, const struct text *data)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < data->length; i++)
        hash = (hash ^ (unsigned char)data->bytes[i]) * UINT64_C(1099511628211);
    text_print(text, "bytes:%zu:%016" PRIx64, data->length, hash);
}

void text_free(struct text *text)
{
    free(text->bytes);
    text->bytes = NULL;
    text->length = 0;
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

bool text_unescape(struct text *text, const char *word, size_t length)
{
    text_append(text, "", 0);
    if (length == 1 && word[0] == '%')
        return true; /* "%" alone: the empty text */
    for (size_t i = 0; i < length; i++) {
        char byte = word[i];
        if (byte == '%') {
            int high = i + 2 < length ? hex_digit(word[i + 1]) : -1;
            int low = i + 2 < length ? hex_digit(word[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            byte = (char)(high * 16 + low);
            i += 2;
        }
        text_append(text, &byte, 1);
    }
    return true;
}

bool parse_number(const char *digits, uint64_t *number)
{
    char *end = NULL;
    if (*digits < '0' || *digits > '9')
        return false;
    errno = 0;
    *number = strtoull(digits, &end, 10);
    return errno == 0 && *end == '\0';
}

static const char *after_prefix(const struct text *word, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(word->bytes, prefix, length) == 0 ? word->bytes + length : NULL;
}

bool is_data_word(const struct text *word)
{
    return after_prefix(word, "stars:") || after_prefix(word, "zeros:") || after_prefix(word, "text:")
           || after_prefix(word, "pattern:");
}

static bool repeat_byte(struct text *data, const char *digits, char byte)
{
    uint64_t length;
    if (!parse_number(digits, &length) || length > MAX_DATA)
        return false;
    memset(text_extend(data, (size_t)length), byte, (size_t)length);
    return true;
}

/* SEED:LENGTH: the top bytes of a 64-bit linear congruential generator (Knuth's MMIX). */
static bool pattern(struct text *data, const char *parameters)
{
    uint64_t state, length;
    const char *colon = strchr(parameters, ':');
    if (colon == NULL || !parse_number(colon + 1, &length) || length > MAX_DATA)
        return false;
    struct text seed = {NULL, 0};
    text_append(&seed, parameters, (size_t)(colon - parameters));
    bool valid = parse_number(seed.bytes, &state);
    text_free(&seed);
    if (!valid)
        return false;
    char *byte = text_extend(data, (size_t)length);
    for (uint64_t i = 0; i < length; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        byte[i] = (char)(state >> 56);
    }
    return true;
}

bool data_generate(struct text *data, const struct text *word)
{
    const char *rest;
    text_append(data, "", 0);
    if ((rest = after_prefix(word, "stars:")) != NULL)
        return repeat_byte(data, rest, '*');
    if ((rest = after_prefix(word, "zeros:")) != NULL)
        return repeat_byte(data, rest, '\0');
    if ((rest = after_prefix(word, "pattern:")) != NULL)
        return pattern(data, rest);
    if ((rest = after_prefix(word, "text:")) != NULL) {
        text_append(data, rest, word->length - (size_t)(rest - word->bytes));
        return true;
    }
    return false;
}
