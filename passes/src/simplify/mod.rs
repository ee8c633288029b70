//! Simplification of graphs: four passes, each exact for all inputs (LN1 section 5).

mod cse;
mod dce;
mod fold;
mod identities;

pub use cse::eliminate_common;
pub use dce::eliminate_dead;
pub use fold::fold_constants;
pub use identities::simplify_identities;
