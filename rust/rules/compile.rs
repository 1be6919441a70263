//! The compiler for rule tables. It keeps the state of the rules besides the table; it runs when
//! rules change, never for a datagram.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet, HashTable};

use super::groups::{GroupIndexDraft, GroupKey};
use super::lists::{Lists, RuleSelection, Run, count};
use super::patterns::PatternsDraft;
use super::{InputKey, PackedKey, Table, TableEntry, TableRule};

/// Lists may be this long, or twice as long as needed, before they are rebuilt.
const SPARE_LEN: usize = 64;

/// Builds tables while rules are added and removed. Each table derives from the previous one: parts
/// that a change does not affect are copied or shared, never compiled again.
pub struct Compiler {
    /// The rules by number; a free number keeps its old rule until it is reused.
    rules: Vec<TableRule>,
    /// The number of each rule's group or block.
    group_numbers: Vec<u32>,
    free: Vec<u32>,
    /// The rules for one group and port, by ascending number.
    by_input: HashMap<InputKey, Vec<u32>>,
    /// Inputs whose rules have changed since the last table.
    changed: HashSet<InputKey>,
    patterns: PatternsDraft,
    groups: GroupIndexDraft,
    disabled: Option<Arc<Table>>,
    table: Arc<Table>,
    /// The limit for growing the lists of the table.
    most_len: usize,
}

impl Default for Compiler {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            group_numbers: Vec::new(),
            free: Vec::new(),
            by_input: HashMap::new(),
            changed: HashSet::new(),
            patterns: PatternsDraft::default(),
            groups: GroupIndexDraft::default(),
            disabled: None,
            table: Arc::new(Table::empty()),
            most_len: SPARE_LEN,
        }
    }
}

impl Compiler {
    /// Adds a rule and returns its number: the lowest unused from 0 on, but freed numbers first.
    pub fn add(&mut self, rule: TableRule) -> u32 {
        let group = self.groups.add(group_key(&rule), (rule.input.port, rule.last_port));
        let number = self.free.pop().unwrap_or(count(self.rules.len()));
        if is_exact(&rule) {
            let numbers = self.by_input.entry(rule.input).or_default();
            let at = numbers.partition_point(|before| *before < number);
            numbers.insert(at, number);
            self.changed.insert(rule.input);
        } else {
            self.patterns.add(number, group, &rule);
        }
        match self.rules.get_mut(number as usize) {
            Some(place) => {
                *place = rule;
                self.group_numbers[number as usize] = group;
            }
            None => {
                self.rules.push(rule);
                self.group_numbers.push(group);
            }
        }
        number
    }

    /// Removes the rule with this number, as returned by [`Compiler::add`].
    ///
    /// # Panics
    ///
    /// If no rule ever had this number.
    pub fn remove(&mut self, number: u32) {
        let rule = &self.rules[number as usize];
        self.groups.remove(group_key(rule), (rule.input.port, rule.last_port));
        if !is_exact(rule) {
            self.patterns.remove(number, rule);
        } else if let Some(numbers) = self.by_input.get_mut(&rule.input) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_input.remove(&rule.input);
            }
            self.changed.insert(rule.input);
        }
        self.free.push(number);
    }

    /// Sets the disabled rules: from the next table on, datagrams that only they would match are
    /// discarded as [`Discard::Disabled`](crate::packet::Discard::Disabled).
    pub fn set_disabled(&mut self, rules: Option<Arc<Table>>) {
        self.disabled = rules;
    }

    /// The table of the current rules.
    #[must_use]
    pub fn table(&mut self) -> Arc<Table> {
        let mut next = self.inputs();
        next.disabled.clone_from(&self.disabled);
        self.groups.refresh(&mut next.groups);
        self.patterns.refresh(&self.rules, &mut next.patterns);
        self.table = Arc::new(next);
        self.table.clone()
    }

    /// The rule with this number.
    ///
    /// # Panics
    ///
    /// If no rule ever had this number.
    #[must_use]
    pub fn rule(&self, number: u32) -> &TableRule {
        &self.rules[number as usize]
    }

    /// An upper bound for rule numbers: all are below it.
    #[must_use]
    pub fn span(&self) -> usize {
        self.rules.len()
    }

    /// An upper bound for the numbers of groups and blocks: all are below it.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.span()
    }

    /// The number of a rule's group or block on its interface.
    ///
    /// # Panics
    ///
    /// If no rule ever had this number.
    #[must_use]
    pub fn group_of(&self, rule: u32) -> u32 {
        self.group_numbers[rule as usize]
    }

    /// The last table with the current inputs.
    fn inputs(&mut self) -> Table {
        let Self { rules, by_input, changed, table, .. } = self;
        let is_rebuild = 2 * changed.len() > by_input.len() || table.lists.len() > self.most_len;
        if !is_rebuild {
            let mut next = Table::clone(table);
            for input in changed.drain() {
                next.forget(input);
                if let Some(numbers) = by_input.get(&input) {
                    next.put(input, &RuleSelection::of(rules, numbers));
                }
            }
            return next;
        }
        changed.clear();
        let mut next = Table {
            hasher: table.hasher.clone(),
            inputs: HashTable::with_capacity(by_input.len()),
            lists: Lists::default(),
            patterns: table.patterns.clone(),
            groups: table.groups.clone(),
            disabled: None,
        };
        for (input, numbers) in by_input {
            next.put(*input, &RuleSelection::of(rules, numbers));
        }
        self.most_len = 2 * next.lists.len() + SPARE_LEN;
        next
    }
}

impl Table {
    fn put(&mut self, input: InputKey, selection: &RuleSelection) {
        let Self { hasher, inputs, lists, .. } = self;
        let key = PackedKey::of(input);
        let (marks, run) = match selection.only() {
            Some((rule, source)) => {
                (PackedKey::BY_SOURCE | PackedKey::ONE_SOURCE, Run::of_one(rule, source))
            }
            None => {
                let run = lists.add(selection);
                (if run.is_by_source() { PackedKey::BY_SOURCE } else { 0 }, run)
            }
        };
        let entry = TableEntry { key: key.marked(marks), run };
        let hash = |entry: &TableEntry| entry.key.unmarked().hash(hasher);
        inputs.insert_unique(key.hash(hasher), entry, hash);
    }

    fn forget(&mut self, input: InputKey) {
        let key = PackedKey::of(input);
        if let Ok(entry) =
            self.inputs.find_entry(key.hash(&self.hasher), |entry| entry.key.is_of(&key))
        {
            entry.remove();
        }
    }
}

fn is_exact(rule: &TableRule) -> bool {
    rule.group_bits == 0 && rule.last_port == rule.input.port
}

fn group_key(rule: &TableRule) -> GroupKey {
    (rule.input.interface, rule.group_bits, rule.input.group.block(rule.group_bits))
}
