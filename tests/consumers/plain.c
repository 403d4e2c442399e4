/* plain CACHE_DIR: nothing but the five things. */
#include "exercise.h"

int main(int argc, char **argv)
{
    return argc == 2 ? exercise(argv[1]) : 2;
}
