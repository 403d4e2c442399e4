# A field at the end of a struct whose size the caller passes.
# Shown: 'uint64_t appended'
s/^  uint64_t found_damaged;$/&\n  uint64_t appended;/
