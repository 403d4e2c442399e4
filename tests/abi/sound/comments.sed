# Comments are no part of the ABI.
s/The status that the call returned\./What the call returned./
