/* The operations of each consumer: cache, read, tee, list, prune. */
#ifndef EXERCISE_H
#define EXERCISE_H

/* Creates a cache in the directory and makes the calls. Returns 0, or prints a failure to stderr and returns 1. */
int exercise(const char *directory);

#endif
