//! The datagrams of one turn: their buffers, and for each rule the list of those it took.
//! It must not know sockets or counters.

use crate::sys::buffers::Buffer;

/// Most (datagram, rule) pairs in a window; beyond, the window is sent first.
const MAX_LINKS: usize = 8192;
const NONE: u16 = u16::MAX;

/// One datagram, or the equal-sized datagrams of a super-frame, in its buffer.
pub(crate) struct Entry {
    pub(crate) buffer: Buffer,
    /// Where the payload starts in the buffer.
    pub(crate) start: u32,
    /// Bytes of payload.
    pub(crate) len: u32,
    /// Bytes of each datagram but the last.
    pub(crate) segment: u32,
    /// How many datagrams.
    pub(crate) count: u32,
}

#[derive(Clone, Copy)]
struct Link {
    entry: u16,
    next: u16,
}

#[derive(Clone, Copy)]
struct List {
    head: u16,
    tail: u16,
}

const EMPTY: List = List { head: NONE, tail: NONE };

/// The datagrams of one turn.
pub(crate) struct Window {
    entries: Vec<Entry>,
    links: Vec<Link>,
    lists: Vec<List>,
    active: Vec<u32>,
}

impl Window {
    /// A window with room for `entries` datagrams and `rules` rules.
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            links: Vec::with_capacity(MAX_LINKS),
            lists: Vec::new(),
            active: Vec::new(),
        }
    }

    /// Makes room, so that nothing is allocated while datagrams flow. The window is empty.
    pub(crate) fn resize(&mut self, entries: usize, rules: usize) {
        self.entries.reserve(entries);
        self.lists.clear();
        self.lists.resize(rules, EMPTY);
        self.active.reserve(rules);
    }

    /// Adds a datagram and says its number.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) -> u16 {
        let number = u16::try_from(self.entries.len()).unwrap_or(NONE);
        self.entries.push(entry);
        number
    }

    /// Puts a datagram at the end of a rule's list; false when there is no more room.
    #[inline]
    #[must_use]
    pub(crate) fn link(&mut self, rule: u32, entry: u16) -> bool {
        if self.links.len() >= MAX_LINKS {
            return false;
        }
        let Ok(number) = u16::try_from(self.links.len()) else { return false };
        self.links.push(Link { entry, next: NONE });
        let list = &mut self.lists[rule as usize];
        if list.head == NONE {
            list.head = number;
            self.active.push(rule);
        } else {
            self.links[usize::from(list.tail)].next = number;
        }
        list.tail = number;
        true
    }

    /// The rules that have datagrams left.
    pub(crate) fn active(&self) -> &[u32] {
        &self.active
    }

    /// The next datagram of a rule's list, left there.
    #[inline]
    pub(crate) fn peek(&self, rule: u32) -> Option<(u16, &Entry)> {
        let head = self.lists[rule as usize].head;
        let link = self.links.get(usize::from(head)).filter(|_| head != NONE)?;
        Some((link.entry, &self.entries[usize::from(link.entry)]))
    }

    /// Takes the datagram that [`Window::peek`] showed off the list.
    #[inline]
    pub(crate) fn advance(&mut self, rule: u32) {
        let list = &mut self.lists[rule as usize];
        list.head = self.links[usize::from(list.head)].next;
    }

    /// Forgets the rules that have nothing left.
    pub(crate) fn retire_finished(&mut self) {
        let lists = &self.lists;
        self.active.retain(|&rule| lists[rule as usize].head != NONE);
        if self.active.is_empty() {
            self.links.clear();
        }
    }

    /// A datagram by its number.
    #[inline]
    pub(crate) fn entry(&self, number: u16) -> &Entry {
        &self.entries[usize::from(number)]
    }

    /// Takes all datagrams out; the rules' lists are empty by then.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Buffer> + '_ {
        self.entries.drain(..).map(|entry| entry.buffer)
    }

    /// How many datagrams it holds.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
