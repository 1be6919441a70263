//! The ways to send copies: UDP sockets or AF_XDP sockets.

/// The choice of the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EgressMode {
    /// `Xdp` for each output that can use it, else `Socket`.
    #[default]
    Auto,
    /// UDP sockets for all outputs.
    Socket,
    /// AF_XDP sockets; a rule with an output that cannot use one is refused.
    Xdp,
}

impl EgressMode {
    /// Reads the choice by its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "socket" => Some(Self::Socket),
            "xdp" => Some(Self::Xdp),
            _ => None,
        }
    }
}
