/*
 * Each function returns exactly the statuses that the header documents for it. Usage: `statuses sqlite HEADER`; it
 * tests both drivers.
 *
 * Each call of statuses_calls.h is made normally, in a forked child, and once for each system call that it makes, with
 * that one, or all from it on, failing. The returned statuses are compared with the list after "Returns ..." in the
 * function's documentation: none may be missing on either side.
 */
#include <image_cache.h>

#include "check.h"
#include "statuses_calls.h"
#include "statuses_faults.h"

#include <sys/wait.h>

/* ---- Returned statuses ---------------------------------------------------------------------------------------------- */

static bool returned[CALL_COUNT][STATUS_COUNT]; /* the row of a function is that of its first call */

static size_t first_call_of(const char *function)
{
    size_t at = 0;
    while (strcmp(calls[at].function, function) != 0)
        at++;
    return at;
}

static void record(size_t which, image_cache_status_t status)
{
    CHECK(status <= 0 && -status < STATUS_COUNT);
    CHECK(status == IMAGE_CACHE_OK || (error.status == status && error.message[0] != '\0'));
    returned[first_call_of(calls[which].function)][-status] = true;
}

static bool succeeded; /* the last call */

/* Makes the call with a fault, and returns whether the call reached the fault. */
static bool fault(size_t which, int at, int code, bool stays)
{
    set_up();
    calls[which].before();
    fault_count = 0, fault_error = code, fault_stays = stays, fault_at = at;
    image_cache_status_t status = make_call(which);
    fault_at = 0;
    bool reached = fault_count >= at;
    succeeded = status == IMAGE_CACHE_OK;
    record(which, status);
    tear_down();
    return reached;
}

static void in_child(size_t which)
{
    set_up();
    calls[which].before();
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(-make_call(which));
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) < STATUS_COUNT);
    returned[first_call_of(calls[which].function)][WEXITSTATUS(status)] = true;
    tear_down();
}

static void provoke(void)
{
    static const int codes[] = {EIO, ENOSPC, ENOTSUP};
    for (size_t which = 0; which < CALL_COUNT; which++) {
        in_child(which);
        (void)fault(which, 0, 0, false);
        if (!succeeded)
            continue;
        /* Each of the first system calls fails, then fewer of the later ones: open makes hundreds. */
        for (size_t i = 0; i < 6; i++)
            for (int at = 1; fault(which, at, codes[i / 2], i % 2 != 0); at += 1 + at / 8)
                CHECK(at < 10000);
    }
}

/* ---- Documented statuses ------------------------------------------------------------------------------------------ */

/* In the documentation of a function, the paragraph that begins with "Returns", and the list after it. */
static const char *returns_of(const char *header, const char *function, const char **end)
{
    static const char list[] = "\n *\n * - IMAGE_CACHE_ERROR_";
    char declaration[80];
    snprintf(declaration, sizeof declaration, "\nimage_cache_status_t %s(", function);
    const char *at = strstr(header, declaration), *comment = header, *returns = header;
    CHECK(at != NULL);
    for (const char *next = header; (next = strstr(next, "\n/**\n")) != NULL && next < at; next++)
        comment = next;
    returns = strstr(comment, "\n * Returns ");
    CHECK(returns != NULL && returns < at);
    *end = strstr(returns, "\n *\n");
    CHECK(*end != NULL && *end < at);
    if (strncmp(*end, list, strlen(list)) == 0) {
        *end = strstr(*end + strlen(list), "\n *\n");
        CHECK(*end != NULL && *end < at);
    }
    return returns;
}

/* The beginning of the header says that each call for a handle returns this in a forked child. */
static bool is_documented_for_all(const char *function, size_t status)
{
    return -(int)status == IMAGE_CACHE_ERROR_FORKED && strncmp(function, "image_cache_options_", 20) != 0;
}

/* The paragraph begins with IMAGE_CACHE_OK. Each error begins an entry of the list, and is followed by a reason. A
   paragraph that begins with "Returns as image_cache_...()" has that function's statuses as well. */
static bool documented(const char *header, const char *function, size_t status)
{
    static const char as[] = "\n * Returns as ";
    const char *end = NULL, *text = returns_of(header, function, &end);
    char sought[80], other[80];
    snprintf(sought, sizeof sought,
             status == 0 ? "\n * Returns %s" : "\n * - %s: ", image_cache_status_name(-(int)status));
    const char *found = strstr(text, sought);
    if (found != NULL && found < end)
        return true;
    if (strncmp(text, as, strlen(as)) != 0)
        return false;
    text += strlen(as);
    snprintf(other, sizeof other, "%.*s", (int)strcspn(text, "("), text);
    return documented(header, other, status);
}

static int compare(const char *header)
{
    int wrong = 0;
    for (size_t which = 0; which < CALL_COUNT; which++) {
        if (first_call_of(calls[which].function) != which)
            continue;
        for (size_t status = 0; status < STATUS_COUNT; status++) {
            bool excused = false, is_documented = documented(header, calls[which].function, status)
                                                  || is_documented_for_all(calls[which].function, status);
            for (size_t i = 0; i < sizeof unprovokable / sizeof *unprovokable; i++)
                excused |= strcmp(unprovokable[i].function, calls[which].function) == 0
                           && unprovokable[i].status == -(int)status;
            if (is_documented != (returned[which][status] || excused) || (returned[which][status] && excused)) {
                wrong++;
                const char *what = !is_documented ? "returned, but not documented"
                                   : excused      ? "excused, but returned"
                                                  : "documented, but never returned";
                printf("%s: %s is %s\n", calls[which].function, image_cache_status_name(-(int)status), what);
            }
        }
    }
    return wrong;
}

static bool has_attributes(void)
{
    image_cache_options_t *plain = new_options();
    image_cache_t *probe = NULL;
    image_cache_status_t status = image_cache_open(in_directory("probe-xattr"), plain, &probe, &check_error);
    image_cache_close(probe);
    image_cache_options_free(plain);
    return status != IMAGE_CACHE_ERROR_UNSUPPORTED;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    check_start(2, argv);
    static char header[200000];
    FILE *file = fopen(argv[2], "r");
    CHECK(file != NULL && fread(header, 1, sizeof header - 1, file) > 0 && fclose(file) == 0);

    provoke();
    check_driver = IMAGE_CACHE_DRIVER_XATTR;
    if (has_attributes())
        provoke();
    return compare(header) == 0 ? 0 : 1;
}
