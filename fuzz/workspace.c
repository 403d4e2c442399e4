#include "workspace.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char workspace[200];
char cache_directory[256];

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void remove_workspace(void) { nftw(workspace, remove_entry, 16, FTW_DEPTH | FTW_PHYS); }

void create_workspace(void)
{
    const char *parent = getenv("TMPDIR");
    if (parent == NULL)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(workspace, sizeof workspace, "%s/image-cache-fuzz-XXXXXX", parent);
    if (mkdtemp(workspace) == NULL) {
        perror(workspace);
        exit(1);
    }
    snprintf(cache_directory, sizeof cache_directory, "%s/cache", workspace);
    atexit(remove_workspace);
}

bool empty_workspace(void)
{
    remove_workspace();
    return mkdir(workspace, 0777) == 0;
}
