/*
 * Pins over processes: they outlast the process that made them, except those for its life, which end with it, also by
 * SIGKILL. Messages name the holders. Processes that pin at the same time stay within the limit.
 */
#include <image_cache.h>

#include "check.h"

#include <signal.h>
#include <sys/wait.h>

static image_cache_t *cache;

#define PINNED(id) STATUS(IMAGE_CACHE_ERROR_PINNED, image_cache_delete_cached_image(cache, id, &check_error))

static bool says(const char *text) { return strstr(check_error.message, text) != NULL; }

static int64_t pinned_until(const char *id)
{
    image_cache_list_t *list = NULL;
    const image_cache_entry_t *entry = NULL;
    OK(image_cache_get_image(cache, id, &list, &check_error));
    CHECK(image_cache_list_next(list, &entry));
    int64_t until = entry->pinned_until;
    image_cache_list_free(list);
    return until;
}

/* A process that has run `body` with its own handle, closed the handle, and waits to be killed. */
static pid_t process_after(void (*body)(image_cache_t *))
{
    int done[2];
    char byte;
    CHECK(pipe(done) == 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        image_cache_t *own = open_cache("cache");
        body(own);
        image_cache_close(own);
        CHECK(write(done[1], "d", 1) == 1);
        pause();
    }
    close(done[1]);
    CHECK(read(done[0], &byte, 1) == 1);
    close(done[0]);
    return child;
}

static void kill_process(pid_t process)
{
    kill(process, SIGKILL);
    CHECK(waitpid(process, NULL, 0) == process);
}

static void pin_for_life(image_cache_t *own) { OK(image_cache_pin(own, "image", "guest", 0, &check_error)); }

static void pin_for_a_day(image_cache_t *own) { OK(image_cache_pin(own, "image", "guest", 86400, &check_error)); }

/* The parent's handles are not used in the children: the SQLite driver opens after the fork only. */
static void reopen(void)
{
    cache = open_cache("cache");
    if (!is_cached(cache, "image"))
        cache_image(cache, "image", "bytes");
}

static void a_pin_for_life_ends_with_its_process(void)
{
    pid_t process = process_after(pin_for_life);
    reopen();
    PINNED("image"); /* the process has closed its handle */
    char number[32];
    snprintf(number, sizeof number, "process %d", (int)process);
    CHECK(says("'guest'") && says(number) && pinned_until("image") == INT64_MAX);
    kill_process(process);
    CHECK(pinned_until("image") == 0);
    OK(image_cache_delete_cached_image(cache, "image", &check_error));
    image_cache_close(cache);
}

static void a_pin_for_some_time_outlasts_its_process(void)
{
    kill_process(process_after(pin_for_a_day));
    reopen();
    PINNED("image");
    CHECK(says("'guest' for 86") && pinned_until("image") > 0 && pinned_until("image") < INT64_MAX);
    image_cache_close(cache);
    reopen();
    PINNED("image");
    OK(image_cache_unpin(cache, "image", "guest", &check_error)); /* any process can */
    CHECK(pinned_until("image") == 0);
    image_cache_close(cache);
}

static void a_second_pin_of_a_holder_replaces_that_of_another_process(void)
{
    pid_t process = process_after(pin_for_life);
    reopen();
    OK(image_cache_pin(cache, "image", "guest", 86400, &check_error));
    CHECK(pinned_until("image") < INT64_MAX);
    kill_process(process);
    PINNED("image");
    image_cache_close(cache); /* the next pin for a life replaces this one */

    process = process_after(pin_for_life);
    reopen();
    CHECK(pinned_until("image") == INT64_MAX);
    kill_process(process);
    OK(image_cache_delete_cached_image(cache, "image", &check_error));
    image_cache_close(cache);
}

static void pin_and_fork(image_cache_t *own)
{
    OK(image_cache_pin(own, "image", "parent", 0, &check_error));
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        STATUS(IMAGE_CACHE_ERROR_FORKED, image_cache_pin(own, "image", "child", 0, &check_error));
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void the_end_of_a_child_ends_no_pin_of_its_parent(void)
{
    pid_t process = process_after(pin_and_fork);
    reopen();
    PINNED("image");
    CHECK(says("'parent'") && !says("'child'"));
    kill_process(process);
    OK(image_cache_delete_cached_image(cache, "image", &check_error));
    image_cache_close(cache);
}

static void a_pin_ends_after_its_time(void)
{
    reopen();
    OK(image_cache_pin(cache, "image", "guest", 1, &check_error));
    image_cache_status_t status;
    do
        status = image_cache_delete_cached_image(cache, "image", NULL);
    while (status == IMAGE_CACHE_ERROR_PINNED);
    CHECK(status == IMAGE_CACHE_OK);
    image_cache_close(cache);
}

static void holders_of_odd_bytes_and_many_of_them(void)
{
    char holder[64];
    reopen();
    for (int byte = 1; byte < 256; byte++) {
        const char odd[] = {(char)byte, '\0'};
        OK(image_cache_pin(cache, "image", odd, 3600, &check_error));
    }
    for (int number = 0; number < 100; number++) {
        snprintf(holder, sizeof holder, "../%d\n\xff", number);
        OK(image_cache_pin(cache, "image", holder, 60, &check_error));
    }
    PINNED("image");
    CHECK(says("'\\x01'") && says("'\\x02'") && says("352 more"));
    for (int number = 0; number < 100; number++) {
        snprintf(holder, sizeof holder, "../%d\n\xff", number);
        OK(image_cache_unpin(cache, "image", holder, &check_error));
    }
    for (int byte = 1; byte < 256; byte++) {
        const char odd[] = {(char)byte, '\0'};
        PINNED("image");
        OK(image_cache_unpin(cache, "image", odd, &check_error));
    }
    OK(image_cache_delete_cached_image(cache, "image", &check_error));

    reopen(); /* as many as can be */
    image_cache_status_t status = IMAGE_CACHE_OK;
    for (int number = 0; status == IMAGE_CACHE_OK; number++) {
        CHECK(number <= 512);
        snprintf(holder, sizeof holder, "%d", number);
        status = image_cache_pin(cache, "image", holder, 60, &check_error);
    }
    CHECK(status == IMAGE_CACHE_ERROR_INVALID_ARGUMENT);
    OK(image_cache_unpin(cache, "image", "7", &check_error));
    OK(image_cache_pin(cache, "image", "in its place", 60, &check_error));
    CHECK(unlink(in_directory("cache/.image_cache/pins/image")) == 0);
    OK(image_cache_delete_cached_image(cache, "image", &check_error));
    image_cache_close(cache);
}

/* Eight processes pin an image each, and half of them fit into the limit. */
static void processes_that_pin_at_once_stay_within_the_limit(void)
{
    enum { PROCESSES = 8 };
    int start[2], pinned = 0;
    char byte;
    pid_t children[PROCESSES];
    image_cache_options_t *options = new_options();
    OK(image_cache_options_set_max_size(options, PROCESSES * 5, &check_error));
    OK(image_cache_open(in_directory("shared"), options, &cache, &check_error));
    for (int i = 0; i < PROCESSES; i++)
        cache_image(cache, (const char[]){(char)('0' + i), '\0'}, "bytes");
    image_cache_close(cache);

    CHECK(pipe(start) == 0);
    fflush(NULL);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] > 0)
            continue;
        const char id[] = {(char)('0' + i), '\0'};
        close(start[1]);
        OK(image_cache_open(in_directory("shared"), options, &cache, &check_error));
        CHECK(read(start[0], &byte, 1) == 0); /* until the parent closes its end */
        image_cache_status_t status = image_cache_pin(cache, id, "guest", 3600, &check_error);
        CHECK(status == IMAGE_CACHE_OK || (status == IMAGE_CACHE_ERROR_NO_SPACE && says("PINNED_FULL")));
        _exit(status == IMAGE_CACHE_OK);
    }
    close(start[1]);
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        CHECK(waitpid(children[i], &status, 0) == children[i] && WIFEXITED(status));
        pinned += WEXITSTATUS(status);
    }
    CHECK(pinned == PROCESSES / 2);
    close(start[0]);

    uint64_t images = 0, bytes = 0, deleted = 0;
    OK(image_cache_open(in_directory("shared"), options, &cache, &check_error));
    OK(image_cache_prune_to(cache, 0, &images, &bytes, &check_error));
    CHECK(images == PROCESSES / 2);
    STATUS(IMAGE_CACHE_ERROR_PINNED, image_cache_delete_all_cached_images(cache, &deleted, &check_error));
    OK(image_cache_get_cache_size(cache, &bytes, &check_error));
    CHECK(bytes == PROCESSES / 2 * 5);
    image_cache_close(cache);
    image_cache_options_free(options);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    reopen();
    image_cache_close(cache);
    a_pin_for_life_ends_with_its_process();
    reopen();
    image_cache_close(cache);
    a_pin_for_some_time_outlasts_its_process();
    a_second_pin_of_a_holder_replaces_that_of_another_process();
    reopen();
    image_cache_close(cache);
    the_end_of_a_child_ends_no_pin_of_its_parent();
    a_pin_ends_after_its_time();
    holders_of_odd_bytes_and_many_of_them();
    processes_that_pin_at_once_stay_within_the_limit();
    return 0;
}
