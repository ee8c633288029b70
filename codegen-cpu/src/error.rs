//! Why a program could not become machine code.

/// An error of this crate. Verified programs are never the user's mistake here: the variants say whose limit was met.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The processor or target can't run generated code.
    #[error("no code for this processor: {0}")]
    Target(String),
    /// A library operation that the scalar library of this build does not define.
    #[error("the scalar library does not define `{0}`")]
    NoDefinition(&'static str),
    /// Packed operands or scratch memory beyond what can be addressed.
    #[error("kernel `{kernel}` needs {bytes} bytes for {what}, which is too much")]
    Memory {
        /// The kernel.
        kernel: String,
        /// For what.
        what: &'static str,
        /// How much, saturated.
        bytes: u64,
    },
    /// Cranelift refused what this crate gave it, or ran out of code memory: a defect of Loom, except for the latter.
    #[error("internal error, please report it: code generation of `{function}`: {message}")]
    Internal {
        /// The generated function.
        function: String,
        /// Cranelift's words.
        message: String,
    },
}
