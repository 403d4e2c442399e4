/* Operations on files and directories that bypass the library. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "scenario.h"

OPERATION(make_file)
{
    FILE *file = fopen(TEXT(0).bytes, "wbe");
    bool written = file != NULL && fwrite(TEXT(1).bytes, 1, TEXT(1).length, file) == TEXT(1).length;
    report_system(call, (file == NULL || fclose(file) == 0) && written);
}

OPERATION(make_dead)
{
    FILE *file = fopen(TEXT(0).bytes, "wbe");
    bool written = file != NULL && fwrite(TEXT(1).bytes, 1, TEXT(1).length, file) == TEXT(1).length;
    bool closed = file == NULL || fclose(file) == 0;
    report_system(call, closed && written && chmod(TEXT(0).bytes, 01644) == 0);
}

OPERATION(make_directory) { report_system(call, mkdir(TEXT(0).bytes, 0755) == 0); }

OPERATION(make_fifo) { report_system(call, mkfifo(TEXT(0).bytes, 0644) == 0); }

OPERATION(make_symlink) { report_system(call, symlink(TEXT(1).bytes, TEXT(0).bytes) == 0); }

OPERATION(remove_file) { report_system(call, remove(TEXT(0).bytes) == 0); }

OPERATION(move) { report_system(call, rename(TEXT(0).bytes, TEXT(1).bytes) == 0); }

/* Creates empty files 0, 1, 2, ... until the disk has no free inode. */
OPERATION(use_up_inodes)
{
    int descriptor = -1;
    for (unsigned i = 0; i < 100000; i++) {
        struct text path = {NULL, 0};
        text_print(&path, "%s/%u", TEXT(0).bytes, i);
        descriptor = open(path.bytes, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        text_free(&path);
        if (descriptor < 0)
            break;
        close(descriptor);
    }
    report_system(call, descriptor < 0 && errno == ENOSPC);
}

/* Sets access and modification time to N seconds ago. It does not follow a symbolic link. */
OPERATION(age)
{
    struct timespec now, times[2];
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec -= (time_t)NUMBER(1);
    times[0] = times[1] = now;
    report_system(call, utimensat(AT_FDCWD, TEXT(0).bytes, times, AT_SYMLINK_NOFOLLOW) == 0);
}

OPERATION(look)
{
    struct stat status;
    if (lstat(TEXT(0).bytes, &status) != 0)
        text_print(&call->result, errno == ENOENT ? "absent" : "FAILED");
    else if (S_ISREG(status.st_mode))
        text_print(&call->result, "file %" PRIu64 " bytes", (uint64_t)status.st_size);
    else
        text_print(&call->result, S_ISDIR(status.st_mode)    ? "directory"
                                  : S_ISLNK(status.st_mode)  ? "symlink"
                                  : S_ISFIFO(status.st_mode) ? "fifo"
                                                             : "other");
}

OPERATION(contents)
{
    struct text data = {NULL, 0};
    char buffer[65536];
    size_t length;
    FILE *file = fopen(TEXT(0).bytes, "rbe");
    if (file == NULL) {
        text_print(&call->result, errno == ENOENT ? "absent" : "FAILED");
        return;
    }
    text_append(&data, "", 0);
    while ((length = fread(buffer, 1, sizeof buffer, file)) > 0)
        text_append(&data, buffer, length);
    if (ferror(file)) {
        text_print(&call->result, "FAILED");
    } else {
        text_print(&call->result, "OK");
        report_bytes(call, &data);
    }
    fclose(file);
    text_free(&data);
}

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **one, const struct dirent **other)
{
    return strcmp((*one)->d_name, (*other)->d_name);
}

OPERATION(list_directory)
{
    struct dirent **entries;
    int count = scandir(TEXT(0).bytes, &entries, not_dots, by_bytes);
    if (count < 0) {
        text_print(&call->result, errno == ENOENT ? "absent" : "FAILED");
        return;
    }
    text_print(&call->result, count == 0 ? "none" : "");
    for (int i = 0; i < count; i++) {
        text_print(&call->result, i > 0 ? " " : "");
        text_escape(&call->result, entries[i]->d_name, strlen(entries[i]->d_name));
        free(entries[i]);
    }
    free(entries);
}

/* Tests whether a file has an extended attribute and, with a third word, whether its value contains it. */
OPERATION(attribute)
{
    char value[4096];
    ssize_t length = lgetxattr(TEXT(0).bytes, TEXT(1).bytes, value, sizeof value);
    if (length < 0) {
        text_print(&call->result, errno == ENODATA ? "absent" : "FAILED");
        text_print(&call->detail, "%s", strerror(errno));
    } else if (call->count < 3) {
        text_print(&call->result, "present");
    } else {
        bool part = memmem(value, (size_t)length, TEXT(2).bytes, TEXT(2).length) != NULL;
        text_print(&call->result, part ? "contains" : "lacks");
        text_print(&call->detail, "%.*s", (int)length, value);
    }
}

const struct operation file_operations[] = {
    {"make_file", "pd", make_file},
    {"make_dead", "pd", make_dead},
    {"make_directory", "p", make_directory},
    {"make_fifo", "p", make_fifo},
    {"make_symlink", "pt", make_symlink},
    {"remove", "p", remove_file},
    {"move", "pp", move},
    {"use_up_inodes", "p", use_up_inodes},
    {"age", "pn", age},
    {"look", "p", look},
    {"contents", "p", contents},
    {"list_directory", "p", list_directory},
    {"attribute", "pt?t", attribute},
    {NULL, NULL, NULL},
};
