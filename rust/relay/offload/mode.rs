//! Whether rules may be relayed in the kernel.

/// The choice of the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffloadMode {
    /// All rules are relayed by the engine.
    #[default]
    Off,
    /// Rules are relayed in the kernel where that is possible, and all others by the engine.
    Auto,
    /// All rules are relayed in the kernel; one that cannot be is refused.
    Require,
}

impl OffloadMode {
    /// Reads the choice by its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "off" => Some(Self::Off),
            "auto" => Some(Self::Auto),
            "require" => Some(Self::Require),
            _ => None,
        }
    }
}
