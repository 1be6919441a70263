//! The sockets that make the kernel merge for blocks of groups: one for each port, whatever the
//! group and the interface. It must not know who receives.

use std::collections::BTreeMap;

use super::{InputSpec, warn_once};
use crate::open::opener::{self, Opener};

/// The ports that rules for blocks of groups name.
pub(super) struct Merging {
    ports: BTreeMap<(bool, u16), Helper>,
}

struct Helper {
    rules: usize,
    /// `None` where a program has the port: then it decides about merging.
    _held: Option<opener::Helper>,
}

impl Merging {
    pub(super) fn new() -> Self {
        Self { ports: BTreeMap::new() }
    }

    /// Opens what an input's ports need: without it all works, only slower.
    pub(super) fn add(
        &mut self,
        input: &InputSpec,
        opener: &dyn Opener,
        warnings: &mut Vec<String>,
    ) {
        let mut refusal = None;
        for port in input.port..=input.last_port {
            let v4 = input.group.is_v4();
            let helper = self.ports.entry((v4, port)).or_insert_with(|| {
                let opened = opener.merger_for_any(v4, port);
                let held = opened.unwrap_or_else(|error| {
                    refusal.get_or_insert((port, error));
                    None
                });
                Helper { rules: 0, _held: held }
            });
            helper.rules += 1;
        }
        if let Some((port, error)) = refusal {
            warn_once(warnings, format!("no helper for port {port}: {error}"));
        }
    }

    /// Takes one [`Merging::add`] back.
    pub(super) fn remove(&mut self, input: &InputSpec) {
        for port in input.port..=input.last_port {
            let key = (input.group.is_v4(), port);
            if let Some(helper) = self.ports.get_mut(&key) {
                helper.rules -= 1;
                if helper.rules == 0 {
                    self.ports.remove(&key);
                }
            }
        }
    }
}
