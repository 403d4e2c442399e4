/*
 * scenario DRIVER FILE...: runs scenario files on one driver ("sqlite" or "xattr") and prints their
 * transcripts. The last line is "N passed, N failed, N skipped". Exit code 1: one failed; 2: wrong usage.
 */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenario.h"

enum outcome { PASSED = 0, FAILED = 1, SKIPPED = 77 }; /* also the exit codes of a scenario's process */

enum { MAX_SECONDS = 300 }; /* a scenario that runs longer has failed */

struct handle *handle_find(struct scenario *scenario, enum handle_kind kind, const char *name)
{
    for (struct handle *handle = scenario->handles; handle < scenario->handles + MAX_HANDLES; handle++)
        if (handle->kind != NO_HANDLE && strcmp(handle->name, name) == 0)
            return handle->kind == kind ? handle : NULL;
    return NULL;
}

struct handle *handle_new(struct scenario *scenario, enum handle_kind kind, const char *name)
{
    struct handle *unused = NULL;
    if (strlen(name) >= sizeof unused->name)
        return NULL;
    for (struct handle *handle = scenario->handles; handle < scenario->handles + MAX_HANDLES; handle++) {
        if (handle->kind == NO_HANDLE)
            unused = handle;
        else if (strcmp(handle->name, name) == 0)
            return NULL;
    }
    if (unused != NULL) {
        unused->kind = kind;
        strcpy(unused->name, name);
    }
    return unused;
}

void handles_remove_ended(struct scenario *scenario)
{
    for (struct handle *handle = scenario->handles; handle < scenario->handles + MAX_HANDLES; handle++) {
        if (handle->kind == NO_HANDLE || handle->is.any != NULL)
            continue;
        if (handle == scenario->cache)
            scenario->cache = NULL;
        source_free(handle->source);
        memset(handle, 0, sizeof *handle);
    }
}

/* Closes the handles that are still open. Caches come last. */
static void close_everything(struct scenario *scenario)
{
    for (int caches = 0; caches <= 1; caches++) {
        for (struct handle *handle = scenario->handles; handle < scenario->handles + MAX_HANDLES; handle++) {
            if ((handle->kind == CACHE_HANDLE) != (caches == 1))
                continue;
            if (handle->kind == CACHE_HANDLE)
                image_cache_close(handle->is.cache);
            else if (handle->kind == WRITER_HANDLE)
                image_cache_abort(handle->is.writer, "the scenario ended");
            else if (handle->kind == READER_HANDLE)
                image_cache_reader_close(handle->is.reader);
            else if (handle->kind == TEE_HANDLE)
                image_cache_tee_close(handle->is.tee);
            else if (handle->kind == STREAM_HANDLE)
                image_cache_stream_close(handle->is.stream);
            handle->is.any = NULL;
        }
        handles_remove_ended(scenario);
    }
    for (size_t i = 0; i < scenario->fetch_count; i++)
        source_free(scenario->fetches[i]);
}

/* The file's name without its directory and ".scenario". */
static void print_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    const char *end = strstr(name, ".scenario");
    printf("%.*s", (int)(end != NULL ? end - name : (ptrdiff_t)strlen(name)), name);
}

static bool run_file(struct scenario *scenario)
{
    FILE *file = fopen(scenario->path, "re");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    unsigned number = 0;

    if (file == NULL) {
        perror(scenario->path);
        return false;
    }
    while (scenario->skipped == NULL && (length = getline(&line, &capacity, file)) > 0) {
        number++;
        if (line[length - 1] == '\n')
            line[--length] = '\0';
        if (length > 0 && line[0] != '#')
            run_line(scenario, number, line);
    }
    free(line);
    fclose(file);
    return true;
}

/* Runs in a child process: a crash or a hang fails one scenario, and its mounts end with it. */
static enum outcome run_scenario(struct scenario *scenario)
{
    bool readable;
    alarm(MAX_SECONDS);
    printf("scenario ");
    print_name(scenario->path);
    printf(" (%s)\n", scenario->driver_name);

    readable = run_file(scenario);
    close_everything(scenario);

    enum outcome outcome = !readable || scenario->mismatches > 0 ? FAILED
                           : scenario->skipped != NULL           ? SKIPPED
                                                                 : PASSED;
    printf(outcome == FAILED ? "FAILED " : outcome == SKIPPED ? "SKIPPED " : "passed ");
    print_name(scenario->path);
    printf(" (%s)", scenario->driver_name);
    if (outcome == SKIPPED)
        printf(": %s", scenario->skipped);
    printf("\n\n");
    return outcome;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status, (void)kind, (void)where;
    return remove(path);
}

static bool make_root(char *root, size_t capacity)
{
    const char *temporary = getenv("TMPDIR");
    char cache[1024];
    int length = snprintf(root, capacity, "%s/scenario-XXXXXX", temporary != NULL ? temporary : "/tmp");
    if (length < 0 || (size_t)length >= capacity || mkdtemp(root) == NULL)
        return false;
    snprintf(cache, sizeof cache, "%s/cache", root);
    return mkdir(cache, 0755) == 0;
}

static enum outcome run_in_process(const char *path, const char *driver_name, int32_t driver)
{
    struct scenario *scenario = allocate(sizeof *scenario);
    int status = 0;
    pid_t child = -1;

    scenario->path = path;
    scenario->driver_name = driver_name;
    scenario->driver = driver;
    if (make_root(scenario->root, sizeof scenario->root)) {
        fflush(stdout);
        child = fork();
        if (child == 0) {
            enum outcome outcome = run_scenario(scenario);
            free(scenario);
            exit(outcome);
        }
    }
    if (child < 0) {
        perror("scenario: cannot create a temporary directory and a process");
        exit(2);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    nftw(scenario->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(scenario);

    if (WIFEXITED(status) && (WEXITSTATUS(status) == PASSED || WEXITSTATUS(status) == SKIPPED))
        return (enum outcome)WEXITSTATUS(status);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != FAILED) {
        printf("FAILED ");
        print_name(path);
        printf(" (%s): its process ended with wait status %d\n\n", driver_name, status);
    }
    return FAILED;
}

int main(int count, char **words)
{
    static const struct {
        const char *name;
        int32_t driver;
    } drivers[] = {{"sqlite", IMAGE_CACHE_DRIVER_SQLITE}, {"xattr", IMAGE_CACHE_DRIVER_XATTR}};
    unsigned passed = 0, failed = 0, skipped = 0;
    int which = count < 2 ? -1 : strcmp(words[1], "sqlite") == 0 ? 0 : strcmp(words[1], "xattr") == 0 ? 1 : -1;

    if (which < 0) {
        fprintf(stderr, "usage: scenario sqlite|xattr FILE...\n");
        return 2;
    }
    for (int i = 2; i < count; i++) {
        switch (run_in_process(words[i], drivers[which].name, drivers[which].driver)) {
        case PASSED: passed++; break;
        case SKIPPED: skipped++; break;
        default: failed++;
        }
    }
    printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    return failed > 0;
}
