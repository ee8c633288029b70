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
    /// What the names of an object's symbols shall begin with is no C identifier.
    #[error(
        "`{0}` can't begin the names of C functions: up to 64 letters, digits and underscores are needed, a letter first"
    )]
    Prefix(String),
    /// The weights for an object aren't the program's.
    #[error("an object's weights are all those of its program, in the program's order: {0}")]
    Weights(String),
    /// More weights than an object can hold.
    #[error("an object holds at most {most} bytes of weights, these are {bytes}: leave them in a file of their own")]
    Embedded {
        /// How many there are.
        bytes: u64,
        /// How many there may be.
        most: u64,
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
