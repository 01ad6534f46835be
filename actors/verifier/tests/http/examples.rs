//! The servers and adapters of `examples/`, as real processes.
