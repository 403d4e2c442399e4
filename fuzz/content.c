#include "content.h"

#include "checks.h"

char buffer[LONGEST];

static char content_at(unsigned seed, uint64_t offset) { return (char)(seed * 31 + offset * 7 + (offset >> 8)); }

void fill(void *bytes, unsigned seed, uint64_t offset, size_t length)
{
    for (size_t i = 0; i < length; i++)
        ((char *)bytes)[i] = content_at(seed, offset + i);
}

void check_buffer(unsigned seed, uint64_t offset, size_t length)
{
    for (size_t i = 0; i < length; i++)
        MUSTF(buffer[i] == content_at(seed, offset + i), "byte %" PRIu64, offset + i);
}
