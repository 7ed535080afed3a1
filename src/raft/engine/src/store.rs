//! The log as raft-rs sees it: a window of recent entries in memory, the terms of all older ones, and what must be read
//! from disk for peers that lag. Nothing here touches a disk: the caller does.
//!
//! Invariants
//!   1. The window is the tail of the log: it ends at `last_index`, without gap.
//!   2. It holds everything above what was handed over: those entries are asked for at any moment and an answer can't
//!      wait (trap 11).
//!   3. `runs` knows the term of every entry of the log, in memory or not.
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Retries that wait for one read from disk. Every heartbeat answer of a lagging peer is one; more would only repeat.
const WAITING_MAX: usize = 16;

/// What the caller must bring. Behind a RefCell: raft-rs asks through `&self`.
#[derive(Default)]
pub struct Needs {
    /// Reads under way, by first index, with raft-rs' retries that wait for them.
    open: BTreeMap<u64, Vec<GetEntriesContext>>,
    /// (first, last) of reads that the caller was not told of yet.
    pub fetches: Vec<(u64, u64)>,
    /// Peers that need a snapshot, not told of yet.
    pub snapshots: BTreeSet<u64>,
}

pub struct Store {
    start: RaftState,
    snapshot_index: u64,
    snapshot_term: u64,
    last_index: u64,
    /// (first index, term) of each run of equal terms, ascending; the first may begin before the log.
    runs: Vec<(u64, u64)>,
    window: VecDeque<Entry>,
    window_bytes: usize,
    /// Entries read from disk for lagging peers, by first index.
    read: BTreeMap<u64, Vec<Entry>>,
    offers: BTreeMap<u64, Snapshot>,
    pub needs: RefCell<Needs>,
}

fn cost(entry: &Entry) -> usize {
    entry.data.len() + 64
}

fn last_of(entries: &[Entry]) -> u64 {
    entries.last().map_or(0, |e| e.index)
}

pub struct LogExtent {
    pub first_index: u64,
    pub last_index: u64,
    pub snapshot_term: u64,
    pub runs: Vec<(u64, u64)>,
}

impl Store {
    /// Checks what the caller recovered: `entries` must reach from `applied` + 1 (or before) to the end of the log.
    pub fn recover(
        hard_state: HardState,
        conf_state: ConfState,
        log: LogExtent,
        entries: Vec<Entry>,
        applied: u64,
    ) -> std::result::Result<Store, String> {
        let mut store = Store {
            start: RaftState::new(hard_state, conf_state),
            snapshot_index: log.first_index - 1,
            snapshot_term: log.snapshot_term,
            last_index: log.last_index,
            runs: log.runs,
            window: VecDeque::new(),
            window_bytes: 0,
            read: BTreeMap::new(),
            offers: BTreeMap::new(),
            needs: RefCell::default(),
        };
        store.check_runs()?;
        store.check_entries(&entries, applied)?;
        for entry in entries.into_iter().filter(|e| e.index >= log.first_index) {
            store.window_bytes += cost(&entry);
            store.window.push_back(entry);
        }
        if store.start.hard_state.term < store.last_term() {
            return Err(format!(
                "the log has term {} but the stored term is {}",
                store.last_term(),
                store.start.hard_state.term
            ));
        }
        Ok(store)
    }

    fn check_runs(&self) -> std::result::Result<(), String> {
        let empty = self.last_index == self.snapshot_index;
        let begins = self.runs.first().map_or(empty, |run| run.0 <= self.snapshot_index + 1);
        let ascends = self.runs.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        let ends = self.runs.last().map_or(true, |run| run.0 <= self.last_index || empty);
        let known = self.runs.iter().all(|run| run.1 >= self.snapshot_term && run.1 > 0);
        if self.last_index < self.snapshot_index || !(empty || begins && ascends && ends && known) {
            return Err(format!(
                "the terms of entries {}..{} don't fit: {:?}",
                self.snapshot_index + 1,
                self.last_index,
                self.runs
            ));
        }
        Ok(())
    }

    fn check_entries(&self, entries: &[Entry], applied: u64) -> std::result::Result<(), String> {
        let mut expected = entries.first().map_or(self.last_index + 1, |e| e.index);
        if expected > applied + 1 && applied < self.last_index {
            return Err(format!("entry {} is missing", applied + 1));
        }
        for entry in entries {
            let in_log =
                entry.index <= self.snapshot_index || self.term_of(entry.index).map_or(false, |t| t == entry.term);
            if entry.index != expected || !in_log {
                return Err(format!("entry {} of term {} doesn't fit into the log", entry.index, entry.term));
            }
            expected += 1;
        }
        if expected != self.last_index + 1 {
            return Err(format!("entry {expected} is missing"));
        }
        Ok(())
    }

    pub fn first(&self) -> u64 {
        self.snapshot_index + 1
    }

    pub fn last(&self) -> u64 {
        self.last_index
    }

    fn last_term(&self) -> u64 {
        self.term_of(self.last_index).unwrap_or(0)
    }

    fn window_first(&self) -> u64 {
        self.last_index + 1 - self.window.len() as u64
    }

    pub fn term_of(&self, index: u64) -> Result<u64> {
        if index == self.snapshot_index {
            return Ok(self.snapshot_term);
        }
        if index < self.snapshot_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index > self.last_index {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let after = self.runs.partition_point(|run| run.0 <= index);
        assert!(after > 0, "no term known for entry {index} of the log");
        Ok(self.runs[after - 1].1)
    }

    /// Entries at or behind the first new one are replaced.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first().map(|e| e.index) else { return };
        assert!(first > self.snapshot_index, "entry {first} is below the snapshot at {}", self.snapshot_index);
        assert!(first <= self.last_index + 1, "entry {first} leaves a gap behind {}", self.last_index);
        assert!(first >= self.window_first(), "entry {first} replaces one that was handed over");
        while self.last_index >= first {
            if let Some(old) = self.window.pop_back() {
                self.window_bytes -= cost(&old);
            }
            self.last_index -= 1;
        }
        while self.runs.last().map_or(false, |run| run.0 >= first) {
            self.runs.pop();
        }
        for entry in entries {
            if self.runs.last().map_or(true, |run| run.1 != entry.term) {
                self.runs.push((entry.index, entry.term));
            }
            self.window_bytes += cost(entry);
            self.window.push_back(entry.clone());
            self.last_index = entry.index;
        }
    }

    pub fn evict(&mut self, handed_over: u64, cache_bytes: usize) {
        while self.window_bytes > cache_bytes && self.window.front().map_or(false, |e| e.index <= handed_over) {
            if let Some(old) = self.window.pop_front() {
                self.window_bytes -= cost(&old);
            }
        }
    }

    pub fn apply_snapshot(&mut self, snapshot: &Snapshot) {
        let meta = snapshot.get_metadata();
        self.snapshot_index = meta.index;
        self.snapshot_term = meta.term;
        self.last_index = meta.index;
        self.runs.clear();
        self.window.clear();
        self.window_bytes = 0;
        self.read.clear();
        self.offers.clear();
    }

    pub fn compact(&mut self, first_kept: u64) {
        if first_kept <= self.first() {
            return;
        }
        self.snapshot_term = self.term_of(first_kept - 1).expect("compacted within the log");
        self.snapshot_index = first_kept - 1;
        while self.window.front().map_or(false, |e| e.index < first_kept) {
            if let Some(old) = self.window.pop_front() {
                self.window_bytes -= cost(&old);
            }
        }
        let gone = self.runs.partition_point(|run| run.0 <= first_kept).saturating_sub(1);
        self.runs.drain(..gone);
        if self.last_index < first_kept {
            self.runs.clear();
        }
        self.read.retain(|first, _| *first >= first_kept);
        self.offers.retain(|_, snapshot| snapshot.get_metadata().index >= first_kept - 1);
    }

    // ---- entries for peers that lag

    /// Entries came from disk (none: could not be read). Returns raft-rs' retries that waited for them.
    pub fn fetched(&mut self, first: u64, entries: Vec<Entry>) -> Vec<GetEntriesContext> {
        let waiting = self.needs.get_mut().open.remove(&first).unwrap_or_default();
        // Compacted or replaced meanwhile: asked for again, if still needed, by the next answer of the peer.
        let fits = |(i, e): (usize, &Entry)| {
            e.index == first + i as u64 && self.term_of(e.index).map_or(false, |t| t == e.term)
        };
        if entries.is_empty() || first < self.first() || !entries.iter().enumerate().all(fits) {
            return Vec::new();
        }
        self.read.insert(first, entries);
        waiting
    }

    /// Drops what no peer goes on reading from. `needed`: the next index of each peer.
    pub fn forget_read(&mut self, needed: impl Fn(u64, u64) -> bool) {
        self.read.retain(|first, entries| needed(*first, last_of(entries)));
    }

    pub fn has_read(&self) -> bool {
        !self.read.is_empty()
    }

    fn old_entries(&self, low: u64, high: u64, max_size: u64, context: GetEntriesContext) -> Result<Vec<Entry>> {
        if let Some((first, entries)) = self.read.range(..=low).next_back() {
            if low <= last_of(entries) {
                let skip = (low - first) as usize;
                return Ok(limited(entries.iter().skip(skip).take((high - low) as usize), max_size));
            }
        }
        assert!(context.can_async(), "entries {low}..{high} were asked for at once and are not in memory");
        let mut needs = self.needs.borrow_mut();
        if !needs.open.contains_key(&low) {
            let last = (self.window_first() - 1).min(high - 1);
            needs.fetches.push((low, last));
        }
        let waiting = needs.open.entry(low).or_default();
        if waiting.len() < WAITING_MAX {
            waiting.push(context);
        }
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    // ---- snapshots for peers that need one

    pub fn offer(&mut self, peer: u64, snapshot: Snapshot) {
        self.offers.insert(peer, snapshot);
    }
}

fn names(conf: &ConfState, id: u64) -> bool {
    conf.voters.contains(&id) || conf.learners.contains(&id) || conf.voters_outgoing.contains(&id)
}

/// As many as fit, at least one.
fn limited<'a>(entries: impl Iterator<Item = &'a Entry>, max_size: u64) -> Vec<Entry> {
    let mut out: Vec<Entry> = Vec::new();
    let mut size = 0u64;
    for entry in entries {
        size += cost(entry) as u64;
        if !out.is_empty() && size > max_size {
            break;
        }
        out.push(entry.clone());
    }
    out
}

impl Storage for Store {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(self.start.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(
            high <= self.last_index + 1,
            "entries up to {high} were asked for, the log ends at {}",
            self.last_index
        );
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let window_first = self.window_first();
        if low < window_first {
            return self.old_entries(low, high, max_size, context);
        }
        let begin = (low - window_first) as usize;
        Ok(limited(self.window.range(begin..begin + (high - low) as usize), max_size))
    }

    fn term(&self, index: u64) -> Result<u64> {
        self.term_of(index)
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    /// A snapshot that doesn't list its receiver would be ignored there (trap 6); one that ends before our log begins
    /// would leave a gap.
    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        if let Some(snapshot) = self.offers.get(&to) {
            let meta = snapshot.get_metadata();
            if meta.index >= request_index && meta.index >= self.snapshot_index && names(meta.get_conf_state(), to) {
                return Ok(snapshot.clone());
            }
        }
        self.needs.borrow_mut().snapshots.insert(to);
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
