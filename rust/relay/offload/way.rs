//! Who relays a rule, with the reason if it is the engine.

/// Who relays the datagrams of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleWay {
    /// The kernel; the engine relays only what the kernel passes on.
    Kernel,
    /// The engine, for a reason with this name: one of [`RuleWay::REASONS`].
    Engine(&'static str),
}

impl RuleWay {
    /// The engine relays every rule.
    pub const OFF: Self = Self::Engine("off");

    /// The names of all reasons. Pages of counters contain their positions.
    pub const REASONS: [&str; 34] = [
        "off",
        "disabled",
        "waiting",
        "pause",
        "not_group",
        "pattern",
        "output_count",
        "device_count",
        "family",
        "no_device",
        "no_neighbour",
        "route",
        "no_carrier",
        "driver",
        "rate",
        "priority",
        "member",
        "not_ethernet",
        "down",
        "filter",
        "firewall",
        "unknown_firewall",
        "multicast_routing",
        "shared_input",
        "upper",
        "listener",
        "capture",
        "processes",
        "hook",
        "rights",
        "refused",
        "batches",
        "tap",
        "limited",
    ];

    /// As a word of a counters page, which is never 0.
    #[must_use]
    pub fn to_word(self) -> u64 {
        let place = |name| Self::REASONS.iter().position(|each| *each == name);
        match self {
            Self::Kernel => 1,
            Self::Engine(name) => place(name).map_or(0, |place| 2 + place as u64),
        }
    }

    /// The way in a word of a counters page; `None` if the word is 0 or invalid.
    #[must_use]
    pub fn from_word(word: u64) -> Option<Self> {
        match word.checked_sub(2) {
            Some(place) => {
                Self::REASONS.get(usize::try_from(place).ok()?).map(|name| Self::Engine(name))
            }
            None => (word == 1).then_some(Self::Kernel),
        }
    }

    /// The way to show for several workers.
    #[must_use]
    pub fn of_workers(ways: impl IntoIterator<Item = Self>) -> Option<Self> {
        ways.into_iter().reduce(|one, other| if other == Self::Kernel { other } else { one })
    }

    /// The name of the reason; `None` for the kernel.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Kernel => None,
            Self::Engine(name) => Some(name),
        }
    }
}
