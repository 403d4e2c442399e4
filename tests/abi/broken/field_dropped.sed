# Shown: 'int64_t last_modified'
/^  int64_t last_modified;$/d
