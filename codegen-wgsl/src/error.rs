//! Why code could not be generated.

/// Why code could not be generated or is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A kernel needs more than the target has.
    #[error("kernel `{kernel}` needs {need} {what}, the target allows {limit}")]
    Limit {
        /// The kernel.
        kernel: String,
        /// What it needs.
        what: &'static str,
        /// How much of it.
        need: u64,
        /// How much there is.
        limit: u64,
    },
    /// A guard compares an index expression that does not fit 32 bits.
    #[error("kernel `{kernel}`: the index expression {expression} needs more than 32 bits")]
    IndexRange {
        /// The kernel.
        kernel: String,
        /// The expression.
        expression: String,
    },
    /// An operation that the scalar library does not define. A defect of Loom.
    #[error("the scalar library has no definition of `{0}`")]
    NoDefinition(String),
    /// Text that naga refuses. A defect of Loom.
    #[error("the generated WGSL is invalid: {0}")]
    Invalid(String),
    /// Text that holds an operation which is not exact on every device. A defect of Loom.
    #[error("the generated WGSL holds {0}, which LN1 does not allow")]
    Forbidden(String),
    /// SPIR-V that the strict form cannot be made of, or that is not in it. A defect of Loom.
    #[error("the generated SPIR-V is not strict: {0}")]
    NotStrict(String),
}
