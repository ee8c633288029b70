//! The floating-point environment of LN1 in an object: what crate `loom-fp-env` does for the runtime.
//!
//! Cranelift has no instruction for the control register, so the function that changes it is made of bytes. It's called
//! with two addresses in the System V convention: the register goes to the first one, and what is at the second one to the
//! register.

use target_lexicon::{Architecture, Triple};

use crate::error::Error;

/// The exchange of a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exchange {
    /// The function.
    pub code: &'static [u8],
    /// LN1's environment: round to nearest, subnormals kept, exceptions masked, no flag raised.
    pub ln1: u64,
}

/// MXCSR: `stmxcsr [rdi]; ldmxcsr [rsi]; ret`.
const X86_64: Exchange = Exchange { code: &[0x0f, 0xae, 0x1f, 0x0f, 0xae, 0x16, 0xc3], ln1: 0x1f80 };

/// FPCR: `mrs x2, fpcr; str x2, [x0]; ldr x2, [x1]; msr fpcr, x2; ret`.
const AARCH64: Exchange = Exchange {
    code: &[
        0x02, 0x44, 0x3b, 0xd5, 0x02, 0x00, 0x00, 0xf9, 0x22, 0x00, 0x40, 0xf9, 0x02, 0x44, 0x1b, 0xd5, 0xc0, 0x03,
        0x5f, 0xd6,
    ],
    ln1: 0,
};

pub(super) fn exchange(triple: &Triple) -> Result<Exchange, Error> {
    match triple.architecture {
        Architecture::X86_64 => Ok(X86_64),
        Architecture::Aarch64(_) => Ok(AARCH64),
        other => Err(Error::Target(format!("objects for {other} are not known"))),
    }
}
