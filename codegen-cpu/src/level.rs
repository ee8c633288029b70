//! How much of a processor code may use.

use std::fmt;
use std::str::FromStr;

use crate::wide::Isa;

/// Instructions that code keeps to. No level changes a bit: tests run each that the processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What every supported processor of the architecture has: see [`Target::Triple`](crate::Target::Triple). All code
    /// comes from Cranelift.
    Portable,
    /// x86-64-v3, with microkernels and elementwise code in AVX2.
    Avx2,
    /// x86-64-v4, with microkernels and elementwise code in AVX-512.
    Avx512,
}

impl Level {
    /// Every level, the least first.
    pub const ALL: [Level; 3] = [Level::Portable, Level::Avx2, Level::Avx512];

    /// The name that users give.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Level::Portable => true,
            Level::Avx2 => has_x86_64_v3(),
            Level::Avx512 => has_x86_64_v3() && has_avx512(),
        }
    }

    /// The vectors of elementwise code of our own, beyond Cranelift's.
    pub(crate) fn wide(self) -> Option<Isa> {
        match self {
            Level::Portable => None,
            Level::Avx2 => Some(Isa::Avx2),
            Level::Avx512 => Some(Isa::Avx512),
        }
    }

    /// The highest level that this processor has.
    pub fn best() -> Level {
        Level::ALL.into_iter().rfind(|level| level.is_available()).unwrap_or(Level::Portable)
    }
}

#[cfg(target_arch = "x86_64")]
fn has_x86_64_v3() -> bool {
    use std::arch::is_x86_feature_detected as has;
    let vectors = has!("avx2") && has!("fma") && has!("f16c");
    let integers = has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("movbe") && has!("popcnt");
    vectors && integers
}

/// What x86-64-v4 adds.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_x86_64_v3() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Not the name of a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no level `{0}`, only `portable`, `avx2` and `avx512`")]
pub struct UnknownLevel(pub String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Level, UnknownLevel> {
        Level::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| UnknownLevel(name.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        let error = "avx1024".parse::<Level>().unwrap_err().to_string();
        assert!(Level::ALL.iter().all(|level| error.contains(level.name())), "{error}");
    }
}
