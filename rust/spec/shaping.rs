//! Classes of traffic, and the rates of output interfaces that they share.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{OutputRate, first_fault, is_interface_name};

/// The class of rules that name none.
pub const DEFAULT_CLASS: &str = "default";
/// The most classes; an interface with a rate has a bucket for each.
const MOST_CLASSES: usize = 16;
/// The most interfaces with a rate.
const MOST_INTERFACES: usize = 1024;

/// A class of traffic.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ClassSpec {
    /// Its name.
    pub name: String,
    /// 0 to 7. Under overload an interface sends nothing of a class that a higher one needs.
    pub priority: u8,
    /// 1 to 1000: its share among the classes of its priority.
    pub weight: u16,
}

/// The most that all outputs on an interface send together.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct InterfaceRateSpec {
    /// The interface's name.
    pub interface: String,
    /// The rate, without a queue.
    pub rate: OutputRate,
}

/// All classes, and all interfaces with a rate.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ShapingSpec {
    /// The classes, among them [`DEFAULT_CLASS`].
    pub classes: Vec<ClassSpec>,
    /// The interfaces.
    pub interfaces: Vec<InterfaceRateSpec>,
}

impl Default for ShapingSpec {
    fn default() -> Self {
        let class = ClassSpec { name: DEFAULT_CLASS.to_owned(), priority: 3, weight: 1 };
        Self { classes: vec![class], interfaces: Vec::new() }
    }
}

impl ShapingSpec {
    /// Checks the fields. Control is not trusted, since it reads what clients send.
    ///
    /// # Errors
    /// The fault as a noun.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { classes, interfaces } = self;
        let names: BTreeSet<&str> = classes.iter().map(|class| class.name.as_str()).collect();
        let places: BTreeSet<&str> =
            interfaces.iter().map(|each| each.interface.as_str()).collect();
        first_fault(&[
            (classes.len() > MOST_CLASSES, "more than 16 classes"),
            (interfaces.len() > MOST_INTERFACES, "more than 1024 interfaces with a rate"),
            (!classes.iter().all(ClassSpec::is_valid), "an invalid class"),
            (
                !interfaces.iter().all(InterfaceRateSpec::is_valid),
                "an invalid rate of an interface",
            ),
            (!names.contains(DEFAULT_CLASS), "no default class"),
            (names.len() < classes.len(), "two classes with the same name"),
            (places.len() < interfaces.len(), "two rates of the same interface"),
        ])
    }
}

impl ClassSpec {
    fn is_valid(&self) -> bool {
        is_class_name(&self.name) && self.priority <= 7 && (1..=1000).contains(&self.weight)
    }
}

impl InterfaceRateSpec {
    fn is_valid(&self) -> bool {
        let Self { interface, rate } = self;
        let has_queue = rate.queue_us > 0 || rate.paced;
        is_interface_name(interface) && rate.is_valid() && !has_queue
    }
}

/// Whether a class can have this name.
#[must_use]
pub fn is_class_name(name: &str) -> bool {
    const MOST_BYTES: usize = 32;
    let is_permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MOST_BYTES).contains(&name.len()) && name.bytes().all(is_permitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(classes: &str, interfaces: &str) -> Result<(), String> {
        let text = format!(r#"{{"classes":[{classes}],"interfaces":[{interfaces}]}}"#);
        let spec: ShapingSpec = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        spec.check().map_err(str::to_owned)
    }

    const CLASS: &str = r#"{"name":"default","priority":3,"weight":1}"#;
    const RATE: &str =
        r#"{"interface":"eth1","rate":{"unit":"bits","per_s":1000000,"burst":65535}}"#;

    #[test]
    fn classes_and_rates_are_checked() {
        read(CLASS, RATE).unwrap();
        ShapingSpec::default().check().unwrap();
        for (classes, interfaces) in [
            ("", RATE),
            (&*format!("{CLASS},{CLASS}"), RATE),
            (&*CLASS.replace("default", "gold"), RATE),
            (&*format!("{CLASS},{}", CLASS.replace("default", "two words")), RATE),
            (&*CLASS.replace(":3", ":8"), RATE),
            (&*CLASS.replace(":1", ":0"), RATE),
            (&*CLASS.replace(":1", ":1001"), RATE),
            (CLASS, &*format!("{RATE},{RATE}")),
            (CLASS, &*RATE.replace("eth1", "e/1")),
            (CLASS, &*RATE.replace("65535", "1")),
            (CLASS, &*RATE.replace("65535", r#"65535,"queue_us":1000"#)),
        ] {
            read(classes, interfaces).expect_err(classes);
        }
    }
}
