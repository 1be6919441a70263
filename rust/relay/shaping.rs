//! The rates of interfaces, and the classes of traffic that share them: their token buckets, which
//! the outputs on each interface have in common.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::network::link_table::LinkTable;
use super::settings::Share;
use crate::engine::interface_limiter::{ClassShare, InterfaceLimiter};
use crate::spec::{DEFAULT_CLASS, InterfaceRateSpec, OutputRate, ShapingSpec};

/// The buckets in use.
pub(super) struct LiveShaping {
    spec: ShapingSpec,
    /// By the names of the interfaces, as they were given.
    limiters: HashMap<String, Arc<InterfaceLimiter>>,
    /// The given name of each interface with a rate that was given by an alternative name only.
    altnames: BTreeMap<String, String>,
    share: Share,
    /// Whether plans have other buckets.
    is_new: bool,
}

impl LiveShaping {
    /// No interface has a rate. `share` is that of this process of each rate.
    pub(super) fn new(share: Share) -> Self {
        let (spec, limiters) = (ShapingSpec::default(), HashMap::new());
        Self { spec, limiters, altnames: BTreeMap::new(), share, is_new: false }
    }

    /// Uses other classes and rates; returns those before. Buckets stay where neither differs, and
    /// others begin full.
    pub(super) fn replace(&mut self, spec: &ShapingSpec, links: &LinkTable) -> ShapingSpec {
        if *spec == self.spec {
            return spec.clone();
        }
        let before = std::mem::replace(&mut self.spec, spec.clone());
        let mut known = std::mem::take(&mut self.limiters);
        let has_classes = before.classes == spec.classes;
        for each in &spec.interfaces {
            let kept = known.remove(&each.interface);
            let kept = kept.filter(|_| has_classes && before.interfaces.contains(each));
            let limiter = kept.unwrap_or_else(|| self.limiter(each));
            self.limiters.insert(each.interface.clone(), limiter);
        }
        self.is_new = true;
        self.follow(links);
        before
    }

    /// Finds the interfaces whose rates were given by alternative names; returns whether they are
    /// others than before. A rate for the own name goes first, then that of the first name.
    pub(super) fn follow(&mut self, links: &LinkTable) -> bool {
        let mut now = BTreeMap::new();
        let mut given: Vec<&String> = self.limiters.keys().collect();
        given.sort_unstable();
        for name in given {
            if let Some(link) = links.find(name).filter(|link| link.name != *name) {
                now.entry(link.name.clone()).or_insert_with(|| name.clone());
            }
        }
        let has_changed = now != self.altnames;
        self.altnames = now;
        self.is_new |= has_changed;
        has_changed
    }

    /// Whether plans have other buckets than these; false from now on.
    pub(super) fn take_is_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }

    /// The share that a class has of an interface, named by its own name; `None` if that has no
    /// rate.
    pub(super) fn class_share(&self, interface: &str, class: Option<&str>) -> Option<ClassShare> {
        let limiter = self.limiter_of(interface)?;
        limiter.share(class.unwrap_or(DEFAULT_CLASS)).or_else(|| limiter.share(DEFAULT_CLASS))
    }

    /// Whether an interface has a rate.
    #[cfg(feature = "offload")]
    pub(super) fn limits(&self, interface: &str) -> bool {
        self.limiter_of(interface).is_some()
    }

    fn limiter_of(&self, interface: &str) -> Option<&Arc<InterfaceLimiter>> {
        let given = || self.limiters.get(self.altnames.get(interface)?);
        self.limiters.get(interface).or_else(given)
    }

    fn limiter(&self, InterfaceRateSpec { rate, .. }: &InterfaceRateSpec) -> Arc<InterfaceLimiter> {
        let per_s = (rate.per_s / u64::from(self.share.of)).max(1);
        Arc::new(InterfaceLimiter::new(&OutputRate { per_s, ..*rate }, &self.spec.classes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::netlink::link::{Link, LinkEvent};
    use crate::spec::{ClassSpec, RateUnit};

    fn spec(rates: &[(&str, u64)], weight: u16) -> ShapingSpec {
        let rate = |&(interface, per_s): &(&str, u64)| InterfaceRateSpec {
            interface: interface.to_owned(),
            rate: OutputRate {
                unit: RateUnit::Bits,
                per_s,
                burst: 65_535,
                queue_us: 0,
                paced: false,
            },
        };
        let mut spec = ShapingSpec::default();
        spec.classes.push(ClassSpec { name: "gold".to_owned(), priority: 7, weight });
        spec.interfaces.extend(rates.iter().map(rate));
        spec
    }

    #[test]
    fn buckets_stay_where_nothing_differs() {
        let (mut shaping, links) = (LiveShaping::new(Share::WHOLE), LinkTable::default());
        assert!(shaping.class_share("a", None).is_none());
        shaping.replace(&spec(&[("a", 1_000_000), ("b", 1_000_000)], 1), &links);
        assert!(shaping.take_is_new() && !shaping.take_is_new());
        let of = |shaping: &LiveShaping, name| shaping.class_share(name, Some("gold")).unwrap();
        let (a, b) = (of(&shaping, "a"), of(&shaping, "b"));
        let unknown = shaping.class_share("a", Some("silver")).unwrap();
        assert!(unknown.is_same(&shaping.class_share("a", None).unwrap()));
        shaping.replace(&spec(&[("a", 1_000_000), ("b", 2_000_000)], 1), &links);
        assert!(of(&shaping, "a").is_same(&a) && !of(&shaping, "b").is_same(&b));
        shaping.replace(&spec(&[("a", 1_000_000)], 2), &links);
        assert!(!of(&shaping, "a").is_same(&a) && shaping.class_share("b", None).is_none());
        shaping.replace(&spec(&[("a", 1_000_000)], 2), &links);
        assert!(shaping.take_is_new() && !shaping.take_is_new());
    }

    #[test]
    fn a_rate_follows_an_alternative_name() {
        let link = |index, name: &str, altnames: &[&str]| {
            let altnames = altnames.iter().map(|name| (*name).to_owned()).collect();
            LinkEvent::Link(Link { index, name: name.to_owned(), altnames, ..Link::default() })
        };
        let (mut shaping, mut links) = (LiveShaping::new(Share::WHOLE), LinkTable::default());
        links.apply(link(1, "a", &["up", "left"]));
        links.apply(link(2, "b", &[]));
        shaping.replace(&spec(&[("up", 1_000_000), ("left", 2_000_000)], 1), &links);
        assert!(shaping.take_is_new() && !shaping.follow(&links));
        let has_rate = |shaping: &LiveShaping, name| shaping.class_share(name, None).is_some();
        assert!(has_rate(&shaping, "a") && !has_rate(&shaping, "b"));
        let left = shaping.class_share("left", None).unwrap();
        assert!(shaping.class_share("a", None).unwrap().is_same(&left), "the first name");
        links.apply(link(1, "a", &["left"]));
        links.apply(link(2, "b", &["up"]));
        assert!(shaping.follow(&links) && shaping.take_is_new());
        let up = shaping.class_share("up", None).unwrap();
        assert!(shaping.class_share("b", None).unwrap().is_same(&up));
        links.apply(LinkEvent::LinkGone(2));
        assert!(shaping.follow(&links) && !has_rate(&shaping, "b"));
    }
}
