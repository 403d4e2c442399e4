/*
 * Real faults: small disks and read-only directories, in a mount namespace of the scenario's process.
 * A scenario that may not mount is skipped with that reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "scenario.h"

static const char may_not_mount[] = "mounting is not permitted here";
const char no_user_attributes[] = "no user attributes on this file system";

bool has_user_attributes(const char *directory)
{
    return setxattr(directory, "user.scenario", "1", 1, 0) == 0 && removexattr(directory, "user.scenario") == 0;
}

static bool write_file(const char *path, const char *text)
{
    int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    bool written = descriptor >= 0 && write(descriptor, text, strlen(text)) == (ssize_t)strlen(text);
    return (descriptor < 0 || close(descriptor) == 0) && written;
}

/* Root of a user namespace may mount there without being root outside. */
static bool become_root_of_namespace(void)
{
    char users[64], groups[64];
    snprintf(users, sizeof users, "0 %u 1", (unsigned)geteuid());
    snprintf(groups, sizeof groups, "0 %u 1", (unsigned)getegid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_file("/proc/self/setgroups", "deny")
           && write_file("/proc/self/uid_map", users) && write_file("/proc/self/gid_map", groups);
}

/* Makes later mounts private to this process, once. */
static bool enter_mount_namespace(void)
{
    static bool entered;
    if (!entered)
        entered = (unshare(CLONE_NEWNS) == 0 || become_root_of_namespace())
                  && mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0;
    return entered;
}

/* Mounts an empty file system over the scenario's directory and creates the cache's directory on it. */
static void mount_disk(struct scenario *scenario, struct call *call, const char *kind, const char *options)
{
    char cache[1024];
    bool mounted = enter_mount_namespace() && mount("none", scenario->root, kind, MS_NOSUID | MS_NODEV, options) == 0;
    if (!mounted && errno == EPERM) {
        scenario->skipped = may_not_mount;
        return;
    }
    snprintf(cache, sizeof cache, "%s/cache", scenario->root);
    report_system(call, mounted && mkdir(cache, 0755) == 0);
}

OPERATION(disk)
{
    char options[128];
    const char *inodes = call->count > 1 ? TEXT(1).bytes : "0"; /* 0: no limit */
    snprintf(options, sizeof options, "mode=0755,size=%s,nr_inodes=%s", TEXT(0).bytes, inodes);
    mount_disk(scenario, call, "tmpfs", options);
}

OPERATION(disk_without_attributes) { mount_disk(scenario, call, "ramfs", "mode=0755"); }

OPERATION(read_only)
{
    const char *path = TEXT(0).bytes;
    const unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV;
    bool mounted = enter_mount_namespace() && mount(path, path, "none", MS_BIND, NULL) == 0
                   && mount("none", path, "none", flags, NULL) == 0;
    if (!mounted && errno == EPERM)
        scenario->skipped = may_not_mount;
    else
        report_system(call, mounted);
}

OPERATION(writable) { report_system(call, umount(TEXT(0).bytes) == 0); }

OPERATION(needs_user_attributes)
{
    if (!has_user_attributes(scenario->root))
        scenario->skipped = no_user_attributes;
    text_print(&call->result, "OK");
}

const struct operation disk_operations[] = {
    {"disk", "t?t", disk},
    {"disk_without_attributes", "", disk_without_attributes},
    {"read_only", "p", read_only},
    {"writable", "p", writable},
    {"needs_user_attributes", "", needs_user_attributes},
    {NULL, NULL, NULL},
};
