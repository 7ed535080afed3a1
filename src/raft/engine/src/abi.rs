//! The structs of engine_abi.h, and their way from and to raft-rs' types.
use crate::machine::Output;
use crate::payload::{borrow, Lender, Release};
use bytes::Bytes;
use raft::eraftpb::*;
use std::ffi::c_void;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct RqBytes {
    pub data: *const u8,
    pub size: usize,
}
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RqIds {
    data: *const u64,
    size: usize,
}
#[repr(C)]
pub struct RqEntry {
    index: u64,
    term: u64,
    payload: RqBytes,
    kind: u8,
}
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RqConf {
    voters: RqIds,
    learners: RqIds,
    voters_outgoing: RqIds,
    learners_next: RqIds,
    auto_leave: u8,
}
#[repr(C)]
pub struct RqSnapshot {
    index: u64,
    term: u64,
    conf: RqConf,
    data: RqBytes,
}
#[repr(C)]
pub struct RqMessage {
    from: u64,
    to: u64,
    term: u64,
    log_term: u64,
    index: u64,
    commit: u64,
    commit_term: u64,
    reject_hint: u64,
    request_snapshot: u64,
    priority: i64,
    context: RqBytes,
    entries: *const RqEntry,
    entries_size: usize,
    snapshot: *const RqSnapshot,
    kind: u8,
    reject: u8,
}
#[repr(C)]
pub struct RqRead {
    index: u64,
    context: RqBytes,
}
#[repr(C)]
pub struct RqFetch {
    first: u64,
    last: u64,
}
#[repr(C)]
#[derive(Default)]
pub struct RqHardState {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
}
#[repr(C)]
pub struct RqConfStep {
    id: u64,
    kind: u8,
}
#[repr(C)]
pub struct RqConfChange {
    steps: *const RqConfStep,
    steps_size: usize,
    joint: u8,
}
#[repr(C)]
pub struct RqReady {
    number: u64,
    messages: *const RqMessage,
    messages_size: usize,
    messages_after_persist: *const RqMessage,
    messages_after_persist_size: usize,
    entries: *const RqEntry,
    entries_size: usize,
    committed: *const RqEntry,
    committed_size: usize,
    reads: *const RqRead,
    reads_size: usize,
    fetches: *const RqFetch,
    fetches_size: usize,
    log: *const RqBytes,
    log_size: usize,
    wanted: RqIds,
    hard_state: *const RqHardState,
    snapshot: *const RqSnapshot,
    must_sync: u8,
    role_changed: u8,
}
#[repr(C)]
pub struct RqOptions {
    pub id: u64,
    pub election_ticks: u64,
    pub retry_ticks: u64,
    pub heartbeat_ticks: u64,
    pub seed: u64,
    pub max_message_bytes: u64,
    pub max_inflight_messages: u64,
    pub max_uncommitted_bytes: u64,
    pub max_committed_bytes_per_ready: u64,
    pub cache_bytes: u64,
    pub release: Release,
    pub release_context: *mut c_void,
}
#[repr(C)]
pub struct RqStart {
    pub hard_state: RqHardState,
    pub conf: RqConf,
    pub conf_index: u64,
    pub applied: u64,
    pub first_index: u64,
    pub last_index: u64,
    pub snapshot_term: u64,
    pub term_starts: *const u64,
    pub term_starts_size: usize,
    pub entries: *const RqEntry,
    pub entries_size: usize,
}
#[repr(C)]
pub struct RqPeer {
    pub id: u64,
    pub matched: u64,
    pub next: u64,
    pub learner: u8,
    pub active: u8,
    pub paused: u8,
    pub snapshotting: u8,
}
#[repr(C)]
pub struct RqStatus {
    pub applied: u64,
    pub first_index: u64,
    pub last_index: u64,
    pub last_term: u64,
    pub transferee: u64,
    pub conf: RqConf,
    pub peers: *const RqPeer,
    pub peers_size: usize,
    pub has_pending_conf: u8,
    pub own_term_committed: u8,
}
#[repr(C)]
#[derive(Default)]
pub struct RqGlance {
    pub leader: u64,
    pub term: u64,
    pub commit: u64,
    pub role: u8,
}

// ---- from C. All are unsafe for one reason: pointer and size must name readable memory.

pub unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        return &[];
    }
    std::slice::from_raw_parts(data, size)
}

unsafe fn id_list(from: &RqIds) -> Vec<u64> {
    slice(from.data, from.size).to_vec()
}

pub unsafe fn lent(from: RqBytes, lender: Lender) -> Bytes {
    borrow(from.data, from.size, lender)
}

/// Takes over every payload, also of entries that are of no known type: those get no type that raft-rs has, see message().
pub unsafe fn entries(data: *const RqEntry, size: usize, lender: Lender) -> Vec<Entry> {
    let entry = |from: &RqEntry| {
        let mut out = Entry::default();
        out.index = from.index;
        out.term = from.term;
        out.data = lent(from.payload, lender);
        out.set_entry_type(match from.kind {
            0 => EntryType::EntryNormal,
            2 => EntryType::EntryConfChangeV2,
            _ => EntryType::EntryConfChange,
        });
        out
    };
    slice(data, size).iter().map(entry).collect()
}

pub fn all_of_known_type(entries: &[Entry]) -> bool {
    entries.iter().all(|e| e.get_entry_type() != EntryType::EntryConfChange)
}

pub unsafe fn conf_state(from: &RqConf) -> ConfState {
    let mut out = ConfState::default();
    out.voters = id_list(&from.voters);
    out.learners = id_list(&from.learners);
    out.voters_outgoing = id_list(&from.voters_outgoing);
    out.learners_next = id_list(&from.learners_next);
    out.auto_leave = from.auto_leave != 0;
    out
}

pub unsafe fn snapshot(from: &RqSnapshot) -> Snapshot {
    let mut out = Snapshot::default();
    let meta = out.mut_metadata();
    meta.index = from.index;
    meta.term = from.term;
    meta.set_conf_state(conf_state(&from.conf));
    out.data = Bytes::copy_from_slice(slice(from.data.data, from.data.size));
    out
}

/// Joint when it is asked for or has several steps; such a configuration is left automatically. No step: leaves one.
pub unsafe fn conf_change(from: &RqConfChange) -> ConfChangeV2 {
    let mut out = ConfChangeV2::default();
    for step in slice(from.steps, from.steps_size) {
        let mut single = ConfChangeSingle::default();
        single.node_id = step.id;
        single.set_change_type(match step.kind {
            0 => ConfChangeType::AddNode,
            1 => ConfChangeType::AddLearnerNode,
            _ => ConfChangeType::RemoveNode,
        });
        out.mut_changes().push(single);
    }
    if from.joint != 0 && from.steps_size != 0 {
        out.set_transition(ConfChangeTransition::Implicit);
    }
    out
}

fn carries_read(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgReadIndex | MessageType::MsgReadIndexResp)
}

/// The kinds that travel between members; the numbers are raft::MessageType's.
fn kind_of(number: u8) -> Option<MessageType> {
    Some(match number {
        3 => MessageType::MsgAppend,
        4 => MessageType::MsgAppendResponse,
        5 => MessageType::MsgRequestVote,
        6 => MessageType::MsgRequestVoteResponse,
        7 => MessageType::MsgSnapshot,
        8 => MessageType::MsgHeartbeat,
        9 => MessageType::MsgHeartbeatResponse,
        14 => MessageType::MsgTimeoutNow,
        15 => MessageType::MsgReadIndex,
        16 => MessageType::MsgReadIndexResp,
        17 => MessageType::MsgRequestPreVote,
        18 => MessageType::MsgRequestPreVoteResponse,
        _ => return None,
    })
}

/// None: not a message between members.
pub unsafe fn message(from: &RqMessage, lender: Lender) -> Option<Message> {
    let entries = entries(from.entries, from.entries_size, lender);
    let kind = kind_of(from.kind)?;
    if !all_of_known_type(&entries) {
        return None;
    }
    let mut out = Message::default();
    out.set_msg_type(kind);
    out.from = from.from;
    out.to = from.to;
    out.term = from.term;
    out.log_term = from.log_term;
    out.index = from.index;
    out.commit = from.commit;
    out.commit_term = from.commit_term;
    out.reject_hint = from.reject_hint;
    out.request_snapshot = from.request_snapshot;
    out.priority = from.priority;
    out.reject = from.reject != 0;
    let context = Bytes::copy_from_slice(slice(from.context.data, from.context.size));
    if carries_read(kind) {
        let mut read = Entry::default();
        read.data = context;
        out.mut_entries().push(read);
    } else {
        out.set_entries(entries.into());
        out.context = context;
    }
    if !from.snapshot.is_null() {
        out.set_snapshot(snapshot(&*from.snapshot));
    }
    Some(out)
}

// ---- to C. What comes out points into what went in.

pub fn view(from: &[u8]) -> RqBytes {
    RqBytes { data: from.as_ptr(), size: from.len() }
}

fn ids(from: &[u64]) -> RqIds {
    RqIds { data: from.as_ptr(), size: from.len() }
}

fn entry_view(from: &Entry) -> RqEntry {
    RqEntry { index: from.index, term: from.term, payload: view(&from.data), kind: from.get_entry_type() as u8 }
}

pub fn conf_view(from: &ConfState) -> RqConf {
    RqConf {
        voters: ids(&from.voters),
        learners: ids(&from.learners),
        voters_outgoing: ids(&from.voters_outgoing),
        learners_next: ids(&from.learners_next),
        auto_leave: from.auto_leave as u8,
    }
}

fn snapshot_view(from: &Snapshot) -> RqSnapshot {
    let meta = from.get_metadata();
    RqSnapshot { index: meta.index, term: meta.term, conf: conf_view(meta.get_conf_state()), data: view(&from.data) }
}

/// An Output with the flat structs that describe it. Kept in a Box: the structs point into it.
#[derive(Default)]
pub struct Held {
    output: Output,
    log: Vec<String>,
    entries: Vec<RqEntry>,
    committed: Vec<RqEntry>,
    sent: Vec<RqEntry>,
    messages: Vec<RqMessage>,
    messages_after_persist: Vec<RqMessage>,
    snapshots: Vec<RqSnapshot>,
    reads: Vec<RqRead>,
    fetches: Vec<RqFetch>,
    log_lines: Vec<RqBytes>,
    hard_state: RqHardState,
}

impl Held {
    /// Takes the place of what was held before; its vectors keep their memory.
    pub fn hold(&mut self, output: Output, log: Vec<String>) -> RqReady {
        self.forget();
        self.output = output;
        self.log = log;
        let output = &self.output;
        self.entries.extend(output.entries.iter().map(entry_view));
        self.committed.extend(output.committed.iter().map(entry_view));
        self.reads.extend(output.reads.iter().map(|r| RqRead { index: r.0, context: view(&r.1) }));
        self.fetches.extend(output.fetches.iter().map(|f| RqFetch { first: f.0, last: f.1 }));
        self.log_lines.extend(self.log.iter().map(|line| view(line.as_bytes())));
        self.hold_messages();
        let snapshot = self.output.snapshot.as_ref().map(snapshot_view);
        let received = snapshot.map_or(std::ptr::null(), |s| {
            self.snapshots.push(s); // hold_messages() reserved its place
            &self.snapshots[self.snapshots.len() - 1] as *const RqSnapshot
        });
        self.ready(received)
    }

    fn forget(&mut self) {
        self.entries.clear();
        self.committed.clear();
        self.sent.clear();
        self.messages.clear();
        self.messages_after_persist.clear();
        self.snapshots.clear();
        self.reads.clear();
        self.fetches.clear();
        self.log_lines.clear();
    }

    /// Reserves first: the elements must not move once they are pointed at.
    fn hold_messages(&mut self) {
        let output = &self.output;
        let all = || output.messages.iter().chain(output.messages_after_persist.iter());
        self.sent.reserve(all().map(|m| m.entries.len()).sum());
        self.snapshots.reserve(1 + all().filter(|m| m.get_msg_type() == MessageType::MsgSnapshot).count());
        for m in &output.messages {
            self.messages.push(message_view(m, &mut self.sent, &mut self.snapshots));
        }
        for m in &output.messages_after_persist {
            self.messages_after_persist.push(message_view(m, &mut self.sent, &mut self.snapshots));
        }
    }

    fn ready(&mut self, snapshot: *const RqSnapshot) -> RqReady {
        let mut hard_state = std::ptr::null();
        if let Some(state) = &self.output.hard_state {
            self.hard_state = RqHardState { term: state.term, vote: state.vote, commit: state.commit };
            hard_state = &self.hard_state;
        }
        RqReady {
            number: self.output.number,
            messages: self.messages.as_ptr(),
            messages_size: self.messages.len(),
            messages_after_persist: self.messages_after_persist.as_ptr(),
            messages_after_persist_size: self.messages_after_persist.len(),
            entries: self.entries.as_ptr(),
            entries_size: self.entries.len(),
            committed: self.committed.as_ptr(),
            committed_size: self.committed.len(),
            reads: self.reads.as_ptr(),
            reads_size: self.reads.len(),
            fetches: self.fetches.as_ptr(),
            fetches_size: self.fetches.len(),
            log: self.log_lines.as_ptr(),
            log_size: self.log_lines.len(),
            wanted: ids(&self.output.wanted),
            hard_state,
            snapshot,
            must_sync: self.output.must_sync as u8,
            role_changed: self.output.role_changed as u8,
        }
    }
}

fn message_view(m: &Message, sent: &mut Vec<RqEntry>, snapshots: &mut Vec<RqSnapshot>) -> RqMessage {
    let kind = m.get_msg_type();
    let mut out = RqMessage {
        from: m.from,
        to: m.to,
        term: m.term,
        log_term: m.log_term,
        index: m.index,
        commit: m.commit,
        commit_term: m.commit_term,
        reject_hint: m.reject_hint,
        request_snapshot: m.request_snapshot,
        priority: m.priority,
        context: view(&m.context),
        entries: std::ptr::null(),
        entries_size: 0,
        snapshot: std::ptr::null(),
        kind: kind as u8,
        reject: m.reject as u8,
    };
    if carries_read(kind) {
        out.context = m.entries.first().map_or(view(&[]), |e| view(&e.data));
    } else if !m.entries.is_empty() {
        let begin = sent.len();
        sent.extend(m.entries.iter().map(entry_view));
        out.entries = sent[begin..].as_ptr();
        out.entries_size = sent.len() - begin;
    }
    if kind == MessageType::MsgSnapshot {
        snapshots.push(snapshot_view(m.get_snapshot()));
        out.snapshot = &snapshots[snapshots.len() - 1];
    }
    out
}
