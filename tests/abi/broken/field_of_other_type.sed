# Shown: type of 'int64_t last_modified' changed
s/^  int64_t last_modified;$/  uint64_t last_modified;/
