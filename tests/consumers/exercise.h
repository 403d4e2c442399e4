/* The five things that each consumer does: caching, reading, teeing, listing, pruning. */
#ifndef EXERCISE_H
#define EXERCISE_H

/* Does them in that directory, which it makes. Returns 0, or 1 after it has said on stderr what went wrong. */
int exercise(const char *directory);

#endif
