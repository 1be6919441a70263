//! The status of rules and interfaces, without their counters: cheap enough to be queried often by
//! a caller that reports changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::blocked::InputTrouble;
use super::link_table::LinkTable;
use crate::relay::Relay;
use crate::sockets::netlink::link::Link;
use crate::spec::rule_of_leg;

/// The status of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleStatus {
    /// The id of its `RuleSpec`.
    pub id: String,
    /// Why its input cannot receive; `None` if it can.
    pub trouble: Option<InputTrouble>,
    /// For each output, in their order: why it cannot send, in a sentence; `None` if it can.
    pub parked: Vec<Option<String>>,
    /// Why the engine relays it and not the kernel, in a sentence; `None` if there is nothing to
    /// say.
    pub engine_sentence: Option<String>,
}

/// A change of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// The interface's name, after the change.
    pub name: String,
    /// The interface's index.
    pub index: u32,
    /// The kind of change: `appeared`, `vanished`, `renamed`, `up`, `down`, `carrier`,
    /// `no_carrier`, `mtu`, `altnames` or `addresses`.
    pub change: &'static str,
    /// The new value, the old one, or both, depending on the kind; empty if the kind says it all.
    pub detail: String,
}

/// The interfaces at one moment.
#[derive(Clone)]
pub struct SeenLinks(Arc<LinkTable>);

impl Relay {
    /// A number that increases when the status of a rule or the warnings may have changed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// The status of the rules that cannot receive, have an output that cannot send, or are not
    /// relayed in the kernel although they may be.
    #[must_use]
    pub fn rules_in_trouble(&self) -> Vec<RuleStatus> {
        let links = self.shared.links.watch().latest();
        let state = self.shared.state();
        let statuses = state.rules.values().filter_map(|rule| {
            let trouble = rule.trouble(&links, state.ingress());
            let parked: Vec<_> = rule.outputs.iter().map(|output| output.trouble()).collect();
            let engine_sentence = state.engine_sentence(&rule.id);
            let is_ok = trouble.is_none()
                && parked.iter().all(Option::is_none)
                && engine_sentence.is_none();
            let id = rule.id.to_string();
            (!is_ok).then_some(RuleStatus { id, trouble, parked, engine_sentence })
        });
        statuses.collect()
    }

    /// The ids of the disabled rules, sorted.
    #[must_use]
    pub fn disabled(&self) -> Vec<String> {
        let state = self.shared.state();
        let heads = state.rules.iter().filter(|(id, _)| rule_of_leg(id) == &***id);
        heads.filter(|(_, rule)| !rule.enabled).map(|(id, _)| id.to_string()).collect()
    }

    /// The ids of all rules, sorted.
    #[must_use]
    pub fn rule_ids(&self) -> Vec<String> {
        let state = self.shared.state();
        let rules = state.rules.keys().filter(|id| rule_of_leg(id) == &***id);
        rules.map(|id| id.to_string()).collect()
    }

    /// Whether there is a rule with this id.
    #[must_use]
    pub fn has_rule(&self, id: &str) -> bool {
        self.shared.state().rules.contains_key(id)
    }

    /// The current interfaces.
    #[must_use]
    pub fn links(&self) -> SeenLinks {
        SeenLinks(self.shared.links.watch().latest())
    }
}

impl SeenLinks {
    /// The changes since `before`: removed interfaces first, then the others, each by index.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<LinkChange> {
        let mut changes = Vec::new();
        if Arc::ptr_eq(&self.0, &before.0) {
            return changes;
        }
        let [old, new] = [before, self].map(|seen| by_index(&seen.0));
        for (index, link) in &old {
            if !new.contains_key(index) {
                changes.push(change(link, "vanished", String::new()));
            }
        }
        for (index, link) in &new {
            match old.get(index) {
                None => changes.push(change(link, "appeared", String::new())),
                Some(was) => compare(was, link, &mut changes),
            }
            let [had, has] = [before, self].map(|seen| seen.0.addresses_of(*index));
            if had != has && old.contains_key(index) {
                changes.push(change(link, "addresses", enumerate(&has)));
            }
        }
        changes
    }
}

fn by_index(links: &LinkTable) -> BTreeMap<u32, &Link> {
    links.all().map(|link| (link.index, link)).collect()
}

fn compare(was: &Link, now: &Link, changes: &mut Vec<LinkChange>) {
    if was.name != now.name {
        changes.push(change(now, "renamed", format!("was {}", was.name)));
    }
    if was.altnames != now.altnames {
        changes.push(change(now, "altnames", enumerate(&now.altnames)));
    }
    if was.up != now.up {
        changes.push(change(now, if now.up { "up" } else { "down" }, String::new()));
    }
    if was.carrier != now.carrier {
        let word = if now.carrier { "carrier" } else { "no_carrier" };
        changes.push(change(now, word, String::new()));
    }
    if was.mtu != now.mtu {
        changes.push(change(now, "mtu", format!("{}, was {}", now.mtu, was.mtu)));
    }
}

/// Joins the words to one line; of a long list, only the first ones and the number of the others.
fn enumerate(words: &[String]) -> String {
    const SHOWN: usize = 16;
    match words.len().checked_sub(SHOWN) {
        None | Some(0) => words.join(" "),
        Some(more) => format!("{} and {more} more", words[..SHOWN].join(" ")),
    }
}

fn change(link: &Link, change: &'static str, detail: String) -> LinkChange {
    LinkChange { name: link.name.clone(), index: link.index, change, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::sockets::netlink::link::LinkEvent;

    fn link(index: u32, name: &str, up: bool, mtu: u32) -> LinkEvent {
        let name = name.to_owned();
        LinkEvent::Link(Link { index, name, up, carrier: up, mtu, ..Link::default() })
    }

    fn seen(events: impl IntoIterator<Item = LinkEvent>) -> SeenLinks {
        let mut links = LinkTable::default();
        events.into_iter().for_each(|event| links.apply(event));
        SeenLinks(Arc::new(links))
    }

    #[test]
    fn each_change_of_an_interface_is_listed_with_its_kind() {
        let address = Addr::v4([10, 0, 0, 1]);
        let before = seen([link(1, "a", true, 1500), link(2, "b", false, 1500)]);
        let after = seen([link(1, "x", false, 9000), link(3, "c", true, 1500)]);
        let words = |now: &SeenLinks, before: &SeenLinks| {
            now.since(before).iter().map(|one| (one.index, one.change)).collect::<Vec<_>>()
        };
        let expected = [
            (2, "vanished"),
            (1, "renamed"),
            (1, "down"),
            (1, "no_carrier"),
            (1, "mtu"),
            (3, "appeared"),
        ];
        assert_eq!(words(&after, &before), expected);
        assert_eq!(words(&after, &after.clone()), []);
        let named = Link {
            index: 1,
            name: "x".to_owned(),
            altnames: vec!["feed".to_owned()],
            ..Link::default()
        };
        let plain = Link { altnames: Vec::new(), ..named.clone() };
        let [with, without] = [named, plain].map(|link| seen([LinkEvent::Link(link)]));
        assert_eq!(
            (words(&with, &without), words(&without, &with)),
            (vec![(1, "altnames")], vec![(1, "altnames")])
        );
        assert_eq!(with.since(&without)[0].detail, "feed");
        let numbers: Vec<String> = (1..=18).map(|number: u8| number.to_string()).collect();
        assert!(enumerate(&numbers[..16]).ends_with(" 15 16"));
        assert!(enumerate(&numbers).ends_with(" 15 16 and 2 more"));
        let readdressed = seen([link(1, "x", false, 9000), LinkEvent::Address(1, address)]);
        let changes = readdressed.since(&after);
        assert_eq!(changes.last().unwrap().detail, "10.0.0.1");
        assert_eq!(words(&readdressed, &after), [(3, "vanished"), (1, "addresses")]);
    }
}
