//! Checks across crates and documents, without a network: dependencies between crates, the lists in docs/,
//! recordings of real nodes, inputs that once broke something.

mod arrows;
mod layers;
mod performance;
mod recordings;
mod regressions;
mod rfc;
