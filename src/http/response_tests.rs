//! Tests of the response machine: behaviours one by one, then any slicing against the whole, then the naive twin.
