/* Runs one line of a scenario: splits it into words, parses them, calls the operation, compares the result. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

static const struct operation *const all_operations[] = {cache_operations,  read_write_operations, tee_operations,
                                                         stream_operations, file_operations,       disk_operations};

static const struct operation *operation_named(const struct text *name)
{
    for (size_t i = 0; i < sizeof all_operations / sizeof all_operations[0]; i++)
        for (const struct operation *operation = all_operations[i]; operation->name != NULL; operation++)
            if (strcmp(operation->name, name->bytes) == 0)
                return operation;
    return NULL;
}

void bad_line(struct call *call, const char *why)
{
    text_free(&call->result);
    text_print(&call->result, "BAD_LINE");
    text_free(&call->detail);
    text_print(&call->detail, "%s", why);
}

const char *status_name(image_cache_status_t status)
{
    static const char *const prefixes[] = {"IMAGE_CACHE_ERROR_", "IMAGE_CACHE_"};
    const char *name = image_cache_status_name(status);
    for (size_t i = 0; i < 2; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return name + strlen(prefixes[i]);
    return name;
}

bool report(struct call *call, image_cache_status_t status)
{
    text_print(&call->result, "%s", status_name(status));
    if (status >= 0)
        return status == IMAGE_CACHE_OK;

    text_free(&call->detail);
    text_print(&call->detail, "%s", call->error.message);
    if (call->error.status != status || call->error.message[0] == '\0')
        text_print(&call->result, " ERROR_NOT_FILLED");
    return false;
}

bool report_out(struct call *call, image_cache_status_t status, bool cleared)
{
    bool succeeded = report(call, status);
    if (status < 0 && !cleared)
        text_print(&call->result, " OUT_PARAMETER_NOT_CLEARED");
    return succeeded;
}

void report_system(struct call *call, bool succeeded)
{
    int number = errno;
    text_print(&call->result, succeeded ? "OK" : "FAILED");
    if (!succeeded)
        text_print(&call->detail, "%s", strerror(number));
}

void report_bytes(struct call *call, const struct text *data)
{
    text_print(&call->result, " ");
    text_fingerprint(&call->result, data);
}

static enum handle_kind handle_kind_of(char letter)
{
    switch (letter) {
    case 'c':
    case 'C': return CACHE_HANDLE;
    case 'w':
    case 'W': return WRITER_HANDLE;
    case 'r':
    case 'R': return READER_HANDLE;
    case 'e':
    case 'E': return TEE_HANDLE;
    case 'm':
    case 'M': return STREAM_HANDLE;
    default: return NO_HANDLE;
    }
}

static void path_in_cache(const struct scenario *scenario, struct text *path)
{
    struct text whole = {NULL, 0};
    text_print(&whole, "%s/cache/%s", scenario->root, path->bytes);
    text_free(path);
    *path = whole;
}

/* Parses one word as the signature's letter says. Returns what is wrong with it, or NULL. */
static const char *read_argument(struct scenario *scenario, struct argument *argument, char letter)
{
    const char *text = argument->text.bytes;
    if (letter == 'd') {
        struct text data = {NULL, 0};
        bool valid = data_generate(&data, &argument->text);
        text_free(&argument->text);
        argument->text = data;
        return valid ? NULL : "no such data";
    }
    if (strlen(text) != argument->text.length && letter != '*')
        return "a NUL byte in a text";
    switch (letter) {
    case 'n': return parse_number(text, &argument->number) ? NULL : "not a number";
    case 's':
        if (!parse_number(text + (text[0] == '-'), &argument->number))
            return "not a number";
        if (text[0] == '-')
            argument->number = 0 - argument->number;
        return NULL;
    case 'p': path_in_cache(scenario, &argument->text); return NULL;
    case 'c':
    case 'w':
    case 'r':
    case 'e':
    case 'm':
        argument->handle = handle_find(scenario, handle_kind_of(letter), text);
        return argument->handle != NULL ? NULL : "no handle of that kind and name is open";
    case 'C':
    case 'W':
    case 'R':
    case 'E':
    case 'M':
        argument->handle = handle_new(scenario, handle_kind_of(letter), text);
        return argument->handle != NULL ? NULL : "the name is in use, too long, or there are too many handles";
    default: return NULL;
    }
}

static const char *read_arguments(struct scenario *scenario, const char *signature, struct call *call)
{
    size_t i = 0;
    bool optional = false;
    if (*signature == '@') {
        signature++;
        if (scenario->cache == NULL)
            return "no cache is selected";
    }
    for (; *signature != '\0' && *signature != '*'; signature++) {
        if (*signature == '?') {
            optional = true;
            continue;
        }
        if (i == call->count)
            return optional ? NULL : "too few words";
        const char *wrong = read_argument(scenario, &call->arguments[i++], *signature);
        if (wrong != NULL)
            return wrong;
    }
    return i == call->count || *signature == '*' ? NULL : "too many words";
}

/* Splits `line` into an operation's name and arguments, and decodes their escapes. */
static const char *split(char *line, struct text *name, struct call *call)
{
    for (char *word = line, *next; word != NULL; word = next) {
        next = strchr(word, ' ');
        if (next != NULL)
            *next++ = '\0';
        if (*word == '\0')
            return "words are separated by one space";
        if (word != line && call->count == MAX_ARGUMENTS)
            return "too many words";
        struct text *text = word == line ? name : &call->arguments[call->count++].text;
        if (!text_unescape(text, word, strlen(word)))
            return "a malformed escape";
    }
    return NULL;
}

/* Replaces data words by their fingerprints, as operations print them. */
static void normalise(struct text *expected, const char *written)
{
    while (written != NULL) {
        const char *space = strchr(written, ' ');
        size_t length = space != NULL ? (size_t)(space - written) : strlen(written);
        struct text word = {NULL, 0}, data = {NULL, 0};
        if (text_unescape(&word, written, length) && is_data_word(&word) && data_generate(&data, &word))
            text_fingerprint(expected, &data);
        else
            text_append(expected, written, length);
        if (space != NULL)
            text_append(expected, " ", 1);
        text_free(&word);
        text_free(&data);
        written = space != NULL ? space + 1 : NULL;
    }
}

static bool is_as_expected(const struct call *call, const char *expected_text, struct text *expected)
{
    const char *result = call->result.bytes;
    normalise(expected, expected_text != NULL ? expected_text : "OK");
    if (strcmp(result, "BAD_LINE") == 0)
        return false;
    if (expected_text == NULL) /* no expectation: any result whose first word is OK */
        return strncmp(result, "OK", 2) == 0 && (result[2] == '\0' || result[2] == ' ');
    return strcmp(result, expected->bytes) == 0;
}

void run_line(struct scenario *scenario, unsigned number, char *line)
{
    struct text name = {NULL, 0}, expected = {NULL, 0};
    struct call *call = allocate(sizeof *call);

    char *expected_text = strstr(line, " => ");
    if (expected_text != NULL) {
        *expected_text = '\0';
        expected_text += strlen(" => ");
    }
    printf("%u %s => ", number, line);

    const char *wrong = split(line, &name, call);
    const struct operation *operation = wrong == NULL ? operation_named(&name) : NULL;
    if (wrong == NULL)
        wrong = operation == NULL ? "no such operation" : read_arguments(scenario, operation->signature, call);
    if (wrong == NULL)
        operation->run(scenario, call);
    else
        bad_line(call, wrong);
    handles_remove_ended(scenario);

    if (scenario->skipped != NULL) {
        printf("SKIPPED\n");
    } else {
        printf("%s\n", call->result.bytes);
        if (!is_as_expected(call, expected_text, &expected)) {
            scenario->mismatches++;
            printf("MISMATCH in line %u: expected %s\n", number, expected.bytes);
            fprintf(stderr, "%s:%u: expected %s, got %s%s%s\n", scenario->path, number, expected.bytes,
                    call->result.bytes, call->detail.length > 0 ? ": " : "",
                    call->detail.length > 0 ? call->detail.bytes : "");
        }
    }

    for (size_t i = 0; i < MAX_ARGUMENTS; i++)
        text_free(&call->arguments[i].text);
    text_free(&call->result);
    text_free(&call->detail);
    free(call);
    text_free(&name);
    text_free(&expected);
}
