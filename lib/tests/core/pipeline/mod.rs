//! Frame in, verdict, frame out, and the exact counters.

mod crossing;
mod errors;
mod flows;
mod helpers;
mod links;
mod observed;
mod quotes;
mod tunnel;
