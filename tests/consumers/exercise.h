/* The operations of each consumer: cache, read, tee, list, prune. */
#ifndef EXERCISE_H
#define EXERCISE_H

/* Creates a cache in the directory and makes the calls. On failure prints a message to stderr and returns 1, else returns 0. */
int exercise(const char *directory);

#endif
