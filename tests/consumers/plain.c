/* plain CACHE_DIR: the operations of exercise.h. */
#include "exercise.h"

int main(int argc, char **argv) { return argc == 2 ? exercise(argv[1]) : 2; }
