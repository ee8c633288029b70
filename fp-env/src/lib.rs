//! The floating-point environment of LN1 (section 2): round to nearest even, subnormals kept, exceptions masked.
//!
//! A host program may have changed it (a game engine that flushes subnormals, a plugin that rounds down), and the bits of
//! every sum depend on it. So does what is computed once: a number in a config, a folded constant, a drawn weight. All of
//! it, on every thread, happens inside [`FpEnv::run`]; the host's settings come back afterwards, exception flags
//! included.
//!
//! A thread begins with the environment of the one that starts it. What starts threads that compute (a driver of a
//! software GPU, say) belongs inside too.
//!
//! ```
//! use loom_fp_env::FpEnv;
//!
//! let third = FpEnv::run(|| 1.0f32 / 3.0);
//! assert_eq!(third.to_bits(), 0x3eaa_aaab);
//! ```

use std::hint::black_box;
use std::marker::PhantomData;

/// The environment. There is only one: LN1's.
#[derive(Debug, Clone, Copy)]
pub struct FpEnv;

/// Keeps LN1's environment until it's dropped, then restores what was there before.
#[derive(Debug)]
#[must_use = "the environment ends with the guard"]
pub struct FpEnvGuard {
    before: control::Word,
    /// The control word is the thread's own.
    not_send: PhantomData<*const ()>,
}

impl FpEnv {
    /// Sets the environment on this thread.
    ///
    /// The compiler knows nothing of the environment and may move arithmetic over this call. What must not be moved
    /// belongs in [`FpEnv::run`].
    pub fn enter() -> FpEnvGuard {
        let before = control::read();
        control::write(control::LN1);
        FpEnvGuard { before, not_send: PhantomData }
    }

    /// Runs a function in the environment. None of its arithmetic happens outside.
    pub fn run<R>(function: impl FnOnce() -> R) -> R {
        let guard = FpEnv::enter();
        // Through a value that the compiler can't see into, so that neither arguments nor result are computed early.
        let result = black_box(call(black_box(function)));
        drop(guard);
        result
    }
}

#[inline(never)]
fn call<R>(function: impl FnOnce() -> R) -> R {
    function()
}

impl Drop for FpEnvGuard {
    fn drop(&mut self) {
        control::write(self.before);
    }
}

#[cfg(target_arch = "x86_64")]
mod control {
    use std::arch::asm;

    /// MXCSR.
    pub type Word = u32;
    /// All six exceptions masked; rounding to nearest, flush-to-zero and denormals-are-zero off, no flag raised.
    pub const LN1: Word = 0x1f80;

    pub fn read() -> Word {
        let mut word: Word = 0;
        // SAFETY: stores 4 bytes to the variable that the operand points to.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        word
    }

    pub fn write(word: Word) {
        // SAFETY: loads a control word that is either `LN1` or was read here before, so that no reserved bit is set. Rust
        // code assumes the default environment, which `LN1` is; another one existed before this crate was called.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod control {
    use std::arch::asm;

    /// FPCR.
    pub type Word = u64;
    /// Rounding to nearest, no flushing of subnormals (FZ, FZ16), no default NaN, no trapped exceptions.
    pub const LN1: Word = 0;

    pub fn read() -> Word {
        let word: Word;
        // SAFETY: reads a register that is readable at every exception level.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    pub fn write(word: Word) {
        // SAFETY: writes a control word that is either `LN1` or was read here before. Rust code assumes the default
        // environment, which `LN1` is; another one existed before this crate was called.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod control {
    /// No environment that a program could change: WebAssembly has LN1's fixed. Other processors are not supported by the
    /// code generators, and the interpreter runs in the default environment that Rust assumes.
    pub type Word = ();
    pub const LN1: Word = ();

    pub fn read() -> Word {}

    pub fn write(_: Word) {}
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Flush-to-zero, denormals-are-zero, rounding down.
    const HOSTILE: u32 = 0x1f80 | 1 << 15 | 1 << 6 | 1 << 13;

    /// Not inlined, and through opaque values at both ends, so that none of it can be computed elsewhere.
    #[inline(never)]
    fn probe() -> [u32; 3] {
        let subnormal = black_box(f32::from_bits(1));
        let tiny = black_box(f32::MIN_POSITIVE);
        let sum = black_box(1.0f32) + black_box(3.0 * 2f32.powi(-25));
        black_box([(subnormal + subnormal).to_bits(), (tiny * black_box(0.5)).to_bits(), sum.to_bits()])
    }

    #[test]
    fn the_environment_is_ln1s_inside_and_the_hosts_outside() {
        let before = control::read();
        let expected = FpEnv::run(probe);
        assert_eq!(expected, [2, 0x0040_0000, 0x3f80_0001]);
        control::write(HOSTILE);
        let (outside, inside, after) = (probe(), FpEnv::run(probe), control::read());
        control::write(before);
        assert_ne!(outside, expected, "the hostile environment is hostile");
        assert_eq!(inside, expected);
        // Exception flags may have been raised outside.
        assert_eq!(after & !0x3f, HOSTILE);
    }

    #[test]
    fn a_panic_restores_too() {
        let before = control::read();
        control::write(HOSTILE);
        let result = std::panic::catch_unwind(|| FpEnv::run(|| std::panic::resume_unwind(Box::new(()))));
        let after = control::read();
        control::write(before);
        assert!(result.is_err());
        assert_eq!(after & !0x3f, HOSTILE);
    }
}
