/* See output.h. One output at a time, since the signal handler removes one temporary file. */
#define _XOPEN_SOURCE 700 /* POSIX of 2008: mkstemp, realpath, strdup */

#include "output.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char suffix[] = ".fetch_http-XXXXXX"; /* hidden, and short enough for every file system */
static char *volatile unfinished;                  /* the temporary file, or NULL */

static void remove_and_die(int number)
{
    if (unfinished != NULL)
        unlink(unfinished);
    signal(number, SIG_DFL);
    raise(number);
}

static void handle(int number)
{
    if (signal(number, SIG_IGN) != SIG_IGN) /* a signal that the parent ignored stays ignored */
        signal(number, remove_and_die);
}

static int open_temporary(output_t *output, mode_t mode)
{
    if (output->final == NULL)
        return errno;
    const char *slash = strrchr(output->final, '/');
    size_t directory = slash != NULL ? (size_t)(slash - output->final) + 1 : 0;
    output->temporary = malloc(directory + sizeof suffix);
    if (output->temporary == NULL)
        return ENOMEM;
    memcpy(output->temporary, output->final, directory);
    memcpy(output->temporary + directory, suffix, sizeof suffix);
    int descriptor = mkstemp(output->temporary);
    if (descriptor < 0)
        return errno;
    unfinished = output->temporary;
    handle(SIGINT);
    handle(SIGTERM);
    output->file = fdopen(descriptor, "wb");
    return output->file != NULL && fchmod(descriptor, mode) == 0 ? 0 : errno; /* mkstemp creates it with 0600 */
}

int output_open(output_t *output, const char *name)
{
    struct stat old;
    *output = (output_t){0};
    if (name == NULL)
        return 0;
    bool to_stdout = strcmp(name, "-") == 0, exists = stat(name, &old) == 0;
    if (to_stdout || (exists && !S_ISREG(old.st_mode))) {
        output->file = to_stdout ? stdout : fopen(name, "wb");
        return output->file != NULL ? 0 : errno;
    }
    mode_t mask = umask(0);
    umask(mask);
    output->final = exists ? realpath(name, NULL) : strdup(name); /* a symbolic link stays one */
    return open_temporary(output, exists ? old.st_mode & 0777 : 0666 & ~mask);
}

int output_write(const output_t *output, const void *bytes, size_t length)
{
    if (output->file == NULL)
        return 0;
    return fwrite(bytes, 1, length, output->file) == length && fflush(output->file) == 0 ? 0 : errno;
}

int output_close(output_t *output, bool whole)
{
    bool temporary = unfinished != NULL;
    int error = 0;
    if (output->file != NULL && (fflush(output->file) != 0 || (temporary && whole && fsync(fileno(output->file)) != 0)))
        error = errno;
    if (output->file != NULL && fclose(output->file) != 0 && error == 0)
        error = errno; /* a network file system may report a failed write here */
    if (temporary && whole && error == 0 && rename(output->temporary, output->final) != 0)
        error = errno;
    if (temporary && (!whole || error != 0))
        unlink(output->temporary);
    unfinished = NULL;
    free(output->temporary);
    free(output->final);
    *output = (output_t){0};
    return error;
}

bool output_lies_in(const output_t *output, const char *directory)
{
    struct stat one, other;
    char *path = output->temporary != NULL ? strdup(output->temporary) : NULL;
    if (path == NULL)
        return false;
    strrchr(path, '.')[1] = '\0'; /* cuts the suffix to ".", which names the file's directory */
    bool same = stat(path, &one) == 0 && stat(directory, &other) == 0 && one.st_dev == other.st_dev
                && one.st_ino == other.st_ino;
    free(path);
    return same;
}
