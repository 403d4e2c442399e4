/*
 * System calls that fail on demand. The functions openat64, read, ... below replace those of libc in this program and
 * in the library.
 */
#ifndef STATUSES_FAULTS_H
#define STATUSES_FAULTS_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int fault_at, fault_error; /* the number of the call that fails, from 1 (0: none), and its errno */
static int fault_count;           /* the calls so far */
static bool fault_stays;          /* all later calls fail as well */

/* Only calls that need space fail with ENOSPC. Any call fails with the others. */
static bool fails(bool needs_space)
{
    if (fault_at == 0 || (fault_error == ENOSPC && !needs_space))
        return false;
    fault_count++;
    if (fault_count != fault_at && !(fault_stays && fault_count > fault_at))
        return false;
    errno = fault_error;
    return true;
}

#define FAULTY(type, name, parameters, arguments, needs_space, failure)                                                \
    type name parameters;                                                                                              \
    type name parameters                                                                                               \
    {                                                                                                                  \
        static type(*real) parameters;                                                                                 \
        if (real == NULL)                                                                                              \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                                                 \
        return fails(needs_space) ? (failure) : real arguments;                                                        \
    }

FAULTY(int, openat64, (int at, const char *path, int flags, ...), (at, path, flags, 0666), flags &O_CREAT, -1)
FAULTY(int, open64, (const char *path, int flags, ...), (path, flags, 0644), flags &O_CREAT, -1)
FAULTY(int, fstat64, (int fd, struct stat64 *s), (fd, s), false, -1)
FAULTY(int, fstatat64, (int at, const char *path, struct stat64 *s, int flags), (at, path, s, flags), false, -1)
FAULTY(int, statx, (int at, const char *path, int flags, unsigned mask, struct statx *s), (at, path, flags, mask, s),
       false, -1)
FAULTY(int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), true, -1)
FAULTY(int, renameat, (int at, const char *path, int to, const char *name), (at, path, to, name), true, -1)
FAULTY(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), false, -1)
FAULTY(int, ftruncate64, (int fd, off64_t length), (fd, length), true, -1)

FAULTY(int, futimens, (int fd, const struct timespec times[2]), (fd, times), false, -1)
FAULTY(int, fsetxattr, (int fd, const char *name, const void *value, size_t size, int flags),
       (fd, name, value, size, flags), true, -1)
FAULTY(ssize_t, fgetxattr, (int fd, const char *name, void *value, size_t size), (fd, name, value, size), false, -1)
FAULTY(ssize_t, read, (int fd, void *buffer, size_t size), (fd, buffer, size), false, -1)
FAULTY(ssize_t, write, (int fd, const void *buffer, size_t size), (fd, buffer, size), true, -1)
FAULTY(ssize_t, pread64, (int fd, void *buffer, size_t size, off64_t at), (fd, buffer, size, at), false, -1)
FAULTY(ssize_t, pwrite64, (int fd, const void *buffer, size_t size, off64_t at), (fd, buffer, size, at), true, -1)
/* Each listing rewinds a directory. */
FAULTY(off64_t, lseek64, (int fd, off64_t offset, int whence), (fd, offset, whence), false, -1)

int fsync(int fd) /* never waits for the disk, because the test makes thousands of calls */
{
    (void)fd;
    return fails(true) ? -1 : 0;
}

int fcntl(int fd, int command, ...) /* the library's locks; unlocking never fails */
{
    static int (*real)(int, int, ...);
    va_list arguments;
    void *argument;
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "fcntl");
    va_start(arguments, command);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (command == F_OFD_SETLK && ((struct flock *)argument)->l_type != F_UNLCK && fails(false))
        return -1;
    return real(fd, command, argument);
}

#endif
