/*
 * The temporary directory of the process. This file knows nothing of the library or of the model.
 */
#ifndef FUZZ_WORKSPACE_H
#define FUZZ_WORKSPACE_H

#include <stdbool.h>

extern char cache_directory[];

void create_workspace(void); /* in $TMPDIR, /dev/shm or /tmp; a normal exit removes it */
bool empty_workspace(void);

#endif
