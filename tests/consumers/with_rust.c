/* with_rust CACHE_DIR: linked with the static library and a second static Rust library. */
#include "exercise.h"

#include <stdint.h>
#include <stdio.h>

uint32_t second_rust_panics(uint32_t times);

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    if (second_rust_panics(5) != 5 || exercise(argv[1]) != 0 || second_rust_panics(5) != 5) {
        fprintf(stderr, "the two libraries conflict\n");
        return 1;
    }
    return 0;
}
