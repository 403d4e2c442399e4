# A field at the end of a struct that the library allocates.
# Shown: 'uint64_t appended'
s/^  int64_t since;$/&\n  uint64_t appended;/
