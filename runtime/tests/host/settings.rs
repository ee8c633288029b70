//! The floating-point settings of a host program: the only place of the tests that changes them.
#![allow(unsafe_code)]

use std::thread;

/// A thread's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What they do, for messages.
    pub name: &'static str,
    word: control::Word,
}

/// What a host program may have set. With an exception unmasked, one operation outside of Loom's own environment that
/// rounds kills the test with a signal.
pub const HOSTILE: [Settings; 3] = [
    Settings { name: "flush-to-zero, denormals-are-zero, round down", word: control::FLUSH_AND_DOWN },
    Settings { name: "round up", word: control::UP },
    Settings { name: "round towards zero, all exceptions unmasked", word: control::UNMASKED },
];

impl Settings {
    /// Sets them on this thread, which keeps them to its end.
    pub fn set_for_good(self) {
        control::write(self.word);
    }
}

/// A thread that has changed its settings.
#[derive(Debug)]
pub struct Host {
    name: &'static str,
    /// As they read back: a processor may lack some.
    word: control::Word,
}

impl Host {
    /// Calls Loom, which must leave the settings as they were. The exception flags are part of them: they are clear
    /// before the call, and one that is raised after it tells of an operation outside of Loom's environment.
    pub fn call<R>(&self, what: &str, loom: impl FnOnce() -> R) -> R {
        control::write(self.word);
        let result = loom();
        self.check(what);
        result
    }

    /// Called back by Loom, or after a call.
    pub fn check(&self, what: &str) {
        let found = control::read();
        assert_eq!(found, self.word, "the settings ({}) after: {what}", self.name);
    }
}

/// Runs a host program on a thread with these settings.
pub fn under<R: Send>(settings: Settings, program: impl FnOnce(&Host) -> R + Send) -> R {
    let thread = || {
        let before = control::read();
        control::write(settings.word);
        let host = Host { name: settings.name, word: control::read() };
        let result = program(&host);
        control::write(before);
        result
    };
    match thread::scope(|scope| scope.spawn(thread).join()) {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[cfg(target_arch = "x86_64")]
mod control {
    use std::arch::asm;

    /// MXCSR.
    pub type Word = u32;

    const MASKED: Word = 0x1f80;
    const FLUSH_TO_ZERO: Word = 1 << 15;
    const DENORMALS_ARE_ZERO: Word = 1 << 6;
    const ROUND_DOWN: Word = 1 << 13;
    const ROUND_UP: Word = 2 << 13;

    pub const FLUSH_AND_DOWN: Word = MASKED | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO | ROUND_DOWN;
    pub const UP: Word = MASKED | ROUND_UP;
    pub const UNMASKED: Word = ROUND_DOWN | ROUND_UP;

    pub fn read() -> Word {
        let mut word: Word = 0;
        // SAFETY: stores 4 bytes to the variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        word
    }

    pub fn write(word: Word) {
        // SAFETY: loads a word of defined bits only. The thread is the test's own, computes nothing but what is tested,
        // and ends or gets its first word back.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod control {
    use std::arch::asm;

    /// FPCR. The exception flags are in another register.
    pub type Word = u64;

    const FLUSH: Word = 1 << 24;
    const ROUND_UP: Word = 1 << 22;
    const ROUND_DOWN: Word = 2 << 22;
    /// Traps of invalid operation, division by zero, overflow, underflow, inexact and subnormal operands.
    const TRAPS: Word = 0x9f00;

    pub const FLUSH_AND_DOWN: Word = FLUSH | ROUND_DOWN;
    pub const UP: Word = ROUND_UP;
    pub const UNMASKED: Word = TRAPS | ROUND_UP | ROUND_DOWN;

    pub fn read() -> Word {
        let word: Word;
        // SAFETY: reads a register that is readable at every exception level.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    pub fn write(word: Word) {
        // SAFETY: defined bits only. The thread is the test's own, computes nothing but what is tested, and ends or gets
        // its first word back.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod control {
    /// Nothing that could be set.
    pub type Word = ();
    pub const FLUSH_AND_DOWN: Word = ();
    pub const UP: Word = ();
    pub const UNMASKED: Word = ();

    pub fn read() -> Word {}

    pub fn write(_: Word) {}
}
