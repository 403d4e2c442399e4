# A field at the end of a struct that the library allocates.
# Shown: 'uint64_t appended'
s/^  const char \*digest;$/&\n  uint64_t appended;/
