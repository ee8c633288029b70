//! The processor's generated code gives the interpreter's bits: every kernel kind, odd shapes, special values, any split
//! of the work.

mod contracts;
mod gathers;
mod maps;
mod networks;
mod random;
mod reductions;
mod scalars;
mod speed;
mod support;
