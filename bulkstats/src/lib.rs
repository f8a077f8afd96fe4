//! bulkstats.
