//! One file per protocol: views over bytes that were checked once and cannot fail later.
