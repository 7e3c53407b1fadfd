//! shard: to be written.
