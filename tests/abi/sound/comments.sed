# Comments are not part of the ABI.
s/The status that the call returned\./What the call returned./
