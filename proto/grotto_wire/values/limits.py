"""Caps that hold at both ends, so that what one end writes the other end takes.

Each bounds memory or time that a few hostile bytes could cost the reader.
"""

MAX_HEADER_BYTES = 256 * 1024 * 1024
MAX_NODES = 2_000_000
"""Containers, arrays and other things with an identity of their own in one envelope."""

MAX_DEPTH = 1000
"""Containers in one another. Hashing and freeing nested objects recurses in C without a check."""

ARRAY_DEPTH = 32
"""Levels an object array counts for: numpy frees nested ones by plain recursion."""

SLICE_DEPTH = 8
"""Levels a slice counts for: it too is freed by plain recursion."""

PANDAS_STEPS = 10
"""What one pandas object takes from the reader's budget of work."""

MAX_INTEGER_BYTES = 1024 * 1024
MAX_DECIMAL_CHARS = 1024 * 1024
MAX_DIMENSIONS = 32
MAX_DTYPE_FIELDS = 10_000
MAX_ITEM_BYTES = 2**31 - 1
MAX_EMPTY_ITEMS = 1_000_000
"""Elements of an array whose elements have no bytes: nothing in the payload bounds them."""

INLINE_CHARS = 64
"""Strings up to here are repeated where they occur; longer ones are shared."""

OUT_OF_BAND_BYTES = 4096
"""Strings and bytes from here on travel in a buffer of their own."""

MAX_COLLISIONS = 16
"""Keys of one hash value in one dictionary or set: hashes of numbers can be chosen."""
