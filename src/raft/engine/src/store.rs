//! The log as raft-rs sees it: a window of recent entries in memory, the terms of all older ones, and what must be read
//! from disk for peers that lag. Nothing here touches a disk: the caller does.
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

/// Entries that a peer needs and that are no longer in the window.
struct Fetch {
    contexts: Vec<GetEntriesContext>,
    entries: Option<Vec<Entry>>,
}

#[derive(Default)]
pub struct Core {
    pub hard_state: HardState,
    pub conf_state: ConfState,
    pub snapshot_index: u64,
    pub snapshot_term: u64,
    last_index: u64,
    /// First index of each run of equal terms, ascending; the first run may begin before the window.
    term_starts: Vec<(u64, u64)>,
    window: VecDeque<Entry>,
    window_bytes: usize,
    fetches: HashMap<u64, Fetch>,
    /// (first, last) of fetches that the caller has not been told of.
    pub fetch_requests: Vec<(u64, u64)>,
    pub offered: HashMap<u64, Snapshot>,
    pub wanted: Vec<u64>,
}

pub struct Store(pub RefCell<Core>);

fn cost(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 64
}

impl Core {
    pub fn set_log(&mut self, first_index: u64, last_index: u64, snapshot_term: u64, term_starts: Vec<(u64, u64)>) {
        self.snapshot_index = first_index - 1;
        self.snapshot_term = snapshot_term;
        self.last_index = last_index;
        self.term_starts = term_starts;
    }

    pub fn first_index(&self) -> u64 {
        self.snapshot_index + 1
    }

    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    fn window_first(&self) -> u64 {
        self.last_index + 1 - self.window.len() as u64
    }

    /// Entries at or behind the first new one are replaced.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first().map(|e| e.index) else { return };
        assert!(first > self.snapshot_index, "append below the snapshot");
        assert!(first <= self.last_index + 1, "gap in the log");
        while self.last_index >= first {
            if let Some(old) = self.window.pop_back() {
                self.window_bytes -= cost(&old);
            }
            self.last_index -= 1;
        }
        while self.term_starts.last().map_or(false, |run| run.0 >= first) {
            self.term_starts.pop();
        }
        for entry in entries {
            if self.term_starts.last().map_or(true, |run| run.1 != entry.term) {
                self.term_starts.push((entry.index, entry.term));
            }
            self.window_bytes += cost(entry);
            self.window.push_back(entry.clone());
            self.last_index = entry.index;
        }
    }

    /// Entries given at start: they are in the log already.
    pub fn load(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.window_bytes += cost(&entry);
            self.window.push_back(entry);
        }
    }

    /// Keeps everything above `applied`: raft-rs asks for those at any moment, and an answer can't wait (trap 11).
    pub fn evict(&mut self, applied: u64, cache_bytes: usize) {
        while self.window_bytes > cache_bytes && self.window.front().map_or(false, |e| e.index <= applied) {
            let old = self.window.pop_front().unwrap();
            self.window_bytes -= cost(&old);
        }
    }

    pub fn apply_snapshot(&mut self, snapshot: &Snapshot) {
        let meta = snapshot.get_metadata();
        self.snapshot_index = meta.index;
        self.snapshot_term = meta.term;
        self.last_index = meta.index;
        self.term_starts.clear();
        self.window.clear();
        self.window_bytes = 0;
        self.fetches.clear();
        self.offered.clear();
        self.conf_state = meta.get_conf_state().clone();
        self.hard_state.commit = self.hard_state.commit.max(meta.index);
    }

    pub fn compact(&mut self, first_kept: u64, term_before: u64) {
        if first_kept <= self.first_index() || first_kept > self.last_index + 1 {
            return;
        }
        self.snapshot_index = first_kept - 1;
        self.snapshot_term = term_before;
        while self.window.front().map_or(false, |e| e.index < first_kept) {
            let old = self.window.pop_front().unwrap();
            self.window_bytes -= cost(&old);
        }
        while self.term_starts.len() > 1 && self.term_starts[1].0 <= first_kept {
            self.term_starts.remove(0);
        }
        self.offered.retain(|_, snapshot| snapshot.get_metadata().index >= first_kept - 1);
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.snapshot_index {
            return Ok(self.snapshot_term);
        }
        if index < self.snapshot_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index > self.last_index {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let after = self.term_starts.partition_point(|run| run.0 <= index);
        assert!(after > 0, "no term known for an entry of the log");
        Ok(self.term_starts[after - 1].1)
    }

    fn entries(&mut self, low: u64, high: u64, max_size: u64, context: GetEntriesContext) -> Result<Vec<Entry>> {
        if low < self.first_index() {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last_index + 1, "entries beyond the log");
        let window_first = self.window_first();
        if low >= window_first {
            let skip = (low - window_first) as usize;
            let found = self.window.iter().skip(skip).take((high - low) as usize);
            return Ok(limited(found, max_size));
        }
        if let Some(Fetch { entries: Some(entries), .. }) = self.fetches.get(&low) {
            return Ok(limited(entries.iter().take((high - low) as usize), max_size));
        }
        assert!(context.can_async(), "entries {low}..{high} were asked for at once and are not in memory");
        let fetch = self.fetches.entry(low).or_insert_with(|| {
            self.fetch_requests.push((low, high - 1));
            Fetch { contexts: Vec::new(), entries: None }
        });
        fetch.contexts.push(context);
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    /// Entries read from disk have come. The contexts are to be given to raft-rs, then fetch_done() is to be called.
    pub fn fetched(&mut self, low: u64, entries: Vec<Entry>) -> Vec<GetEntriesContext> {
        if entries.is_empty() {
            self.fetches.remove(&low);
            return Vec::new();
        }
        match self.fetches.get_mut(&low) {
            Some(fetch) => {
                fetch.entries = Some(entries);
                std::mem::take(&mut fetch.contexts)
            }
            None => Vec::new(),
        }
    }

    pub fn fetch_done(&mut self, low: u64) {
        self.fetches.remove(&low);
    }
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
        let core = self.0.borrow();
        Ok(RaftState { hard_state: core.hard_state.clone(), conf_state: core.conf_state.clone() })
    }

    fn entries(&self, low: u64, high: u64, max_size: impl Into<Option<u64>>, context: GetEntriesContext) -> Result<Vec<Entry>> {
        self.0.borrow_mut().entries(low, high, max_size.into().unwrap_or(u64::MAX), context)
    }

    fn term(&self, index: u64) -> Result<u64> {
        self.0.borrow().term(index)
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.0.borrow().first_index())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.0.borrow().last_index())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        let mut core = self.0.borrow_mut();
        if let Some(snapshot) = core.offered.get(&to) {
            if snapshot.get_metadata().index >= request_index {
                return Ok(snapshot.clone());
            }
        }
        if !core.wanted.contains(&to) {
            core.wanted.push(to);
        }
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
