//! The tiers of exactness on a GPU.

use std::fmt;
use std::str::FromStr;

/// What the exactness of a GPU rests on (LN1 section 8). A device takes the first tier of [`Tier::ALL`] that it is fit for
/// and whose probes it answers as the interpreter does; none runs without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The device's arithmetic in SPIR-V that forbids every liberty: rests on the SPIR-V and Vulkan specifications.
    Strict,
    /// The device's arithmetic in plain WGSL, every result hidden from the compiler: rests on probes alone, those of the
    /// device and those of each kernel.
    Guarded,
    /// Floats computed with integers, which WGSL makes exact everywhere: rests on the WGSL specification. Slow.
    Soft,
}

impl Tier {
    /// The ladder: every tier, the one to be preferred first.
    pub const ALL: [Tier; 3] = [Tier::Strict, Tier::Guarded, Tier::Soft];

    /// The name on the command line and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Strict => "strict",
            Tier::Guarded => "guarded",
            Tier::Soft => "soft",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(name: &str) -> Result<Tier, String> {
        let known = || format!("there is no tier `{name}`, only `strict`, `guarded` and `soft`");
        Tier::ALL.into_iter().find(|tier| tier.name() == name).ok_or_else(known)
    }
}
