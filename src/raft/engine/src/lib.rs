//! The C ABI of ../engine_abi.h around raft-rs. No callback, no I/O, no clock; flat structs in and out.
mod machine;
mod store;

use machine::{Fail, Machine, Outcome, Output, Settings};
use raft::eraftpb::*;
use raft::{ProgressState, StateRole};
use std::panic::{catch_unwind, AssertUnwindSafe};
use store::Core;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct RqBytes {
    data: *const u8,
    size: usize,
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
    token: u64,
    first: u64,
    last: u64,
}
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RqHardState {
    term: u64,
    vote: u64,
    commit: u64,
}
#[repr(C)]
pub struct RqConfStep {
    id: u64,
    kind: u8,
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
    hard_state: *const RqHardState,
    snapshot: *const RqSnapshot,
    must_sync: u8,
    role_changed: u8,
}
#[repr(C)]
pub struct RqOptions {
    id: u64,
    election_ticks: u64,
    heartbeat_ticks: u64,
    seed: u64,
    max_message_bytes: u64,
    max_inflight_messages: u64,
    max_uncommitted_bytes: u64,
    max_committed_bytes_per_ready: u64,
    cache_bytes: u64,
}
#[repr(C)]
pub struct RqStart {
    hard_state: RqHardState,
    conf: RqConf,
    applied: u64,
    first_index: u64,
    last_index: u64,
    snapshot_term: u64,
    term_starts: *const u64,
    term_starts_size: usize,
    entries: *const RqEntry,
    entries_size: usize,
}
#[repr(C)]
pub struct RqPeer {
    id: u64,
    matched: u64,
    next: u64,
    learner: u8,
    active: u8,
    paused: u8,
    snapshotting: u8,
}
#[repr(C)]
pub struct RqStatus {
    leader: u64,
    term: u64,
    commit: u64,
    applied: u64,
    first_index: u64,
    last_index: u64,
    last_term: u64,
    transferee: u64,
    role: u8,
    has_pending_conf: u8,
    own_term_committed: u8,
}

/// A Ready on its way out, and what its pointers point to.
struct Held {
    _output: Output,
    _entries: Vec<Vec<RqEntry>>,
    _messages: Vec<Vec<RqMessage>>,
    _snapshots: Vec<Box<RqSnapshot>>,
    _reads: Vec<RqRead>,
    _fetches: Vec<RqFetch>,
    _hard_state: Option<Box<RqHardState>>,
    ready: RqReady,
}

pub struct RqEngine {
    settings: Option<Settings>,
    machine: Option<Machine>,
    fault: String,
    held: Option<Box<Held>>,
    conf: ConfState,
}

const OK: i32 = 0;
const INTERNAL: i32 = 4;

// ---- from C

unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}
unsafe fn bytes(from: &RqBytes) -> Vec<u8> {
    slice(from.data, from.size).to_vec()
}
unsafe fn entry(from: &RqEntry) -> Entry {
    let mut out = Entry { index: from.index, term: from.term, ..Default::default() };
    if from.kind == 0 {
        out.data = bytes(&from.payload).into();
    } else {
        out.set_entry_type(EntryType::EntryConfChangeV2);
        out.context = bytes(&from.payload).into();
    }
    out
}
unsafe fn entries(data: *const RqEntry, size: usize) -> Vec<Entry> {
    slice(data, size).iter().map(|e| entry(e)).collect()
}
unsafe fn conf_state(from: &RqConf) -> ConfState {
    ConfState {
        voters: slice(from.voters.data, from.voters.size).to_vec(),
        learners: slice(from.learners.data, from.learners.size).to_vec(),
        voters_outgoing: slice(from.voters_outgoing.data, from.voters_outgoing.size).to_vec(),
        learners_next: slice(from.learners_next.data, from.learners_next.size).to_vec(),
        auto_leave: from.auto_leave != 0,
        ..Default::default()
    }
}
unsafe fn snapshot(from: &RqSnapshot) -> Snapshot {
    let mut out = Snapshot { data: bytes(&from.data).into(), ..Default::default() };
    let meta = out.mut_metadata();
    meta.index = from.index;
    meta.term = from.term;
    meta.set_conf_state(conf_state(&from.conf));
    out
}
fn message_type(kind: u8) -> Option<MessageType> {
    Some(match kind {
        3 => MessageType::MsgAppend,
        4 => MessageType::MsgAppendResponse,
        5 => MessageType::MsgRequestVote,
        6 => MessageType::MsgRequestVoteResponse,
        7 => MessageType::MsgSnapshot,
        8 => MessageType::MsgHeartbeat,
        9 => MessageType::MsgHeartbeatResponse,
        13 => MessageType::MsgTransferLeader,
        14 => MessageType::MsgTimeoutNow,
        15 => MessageType::MsgReadIndex,
        16 => MessageType::MsgReadIndexResp,
        17 => MessageType::MsgRequestPreVote,
        18 => MessageType::MsgRequestPreVoteResponse,
        _ => return None,
    })
}
unsafe fn message(from: &RqMessage) -> Option<Message> {
    let mut out = Message {
        from: from.from,
        to: from.to,
        term: from.term,
        log_term: from.log_term,
        index: from.index,
        commit: from.commit,
        commit_term: from.commit_term,
        reject: from.reject != 0,
        reject_hint: from.reject_hint,
        request_snapshot: from.request_snapshot,
        priority: from.priority,
        context: bytes(&from.context).into(),
        ..Default::default()
    };
    out.set_msg_type(message_type(from.kind)?);
    out.entries = entries(from.entries, from.entries_size).into();
    if out.get_msg_type() == MessageType::MsgReadIndex {
        // raft-rs carries the context of a read in an entry.
        let mut carrier = Entry::default();
        carrier.data = std::mem::take(&mut out.context);
        out.entries = vec![carrier].into();
    }
    if out.get_msg_type() == MessageType::MsgReadIndexResp {
        let mut carrier = Entry::default();
        carrier.data = std::mem::take(&mut out.context);
        out.entries = vec![carrier].into();
    }
    if !from.snapshot.is_null() {
        out.set_snapshot(snapshot(&*from.snapshot));
    }
    Some(out)
}
unsafe fn conf_change(steps: *const RqConfStep, size: usize, joint: u8) -> ConfChangeV2 {
    let mut out = ConfChangeV2::default();
    let mut changes = Vec::new();
    for step in slice(steps, size) {
        let mut single = ConfChangeSingle { node_id: step.id, ..Default::default() };
        single.set_change_type(match step.kind {
            0 => ConfChangeType::AddNode,
            1 => ConfChangeType::AddLearnerNode,
            _ => ConfChangeType::RemoveNode,
        });
        changes.push(single);
    }
    out.set_changes(changes.into());
    out.set_transition(if joint != 0 { ConfChangeTransition::Implicit } else { ConfChangeTransition::Auto });
    out
}

// ---- to C

fn view(from: &[u8]) -> RqBytes {
    RqBytes { data: from.as_ptr(), size: from.len() }
}
fn ids(from: &[u64]) -> RqIds {
    RqIds { data: from.as_ptr(), size: from.len() }
}
fn entry_view(from: &Entry) -> RqEntry {
    let conf = from.get_entry_type() != EntryType::EntryNormal;
    RqEntry {
        index: from.index,
        term: from.term,
        payload: if conf { view(&from.context) } else { view(&from.data) },
        kind: if conf { 2 } else { 0 },
    }
}
fn conf_view(from: &ConfState) -> RqConf {
    RqConf {
        voters: ids(&from.voters),
        learners: ids(&from.learners),
        voters_outgoing: ids(&from.voters_outgoing),
        learners_next: ids(&from.learners_next),
        auto_leave: from.auto_leave as u8,
    }
}
fn snapshot_view(from: &Snapshot) -> Box<RqSnapshot> {
    let meta = from.get_metadata();
    Box::new(RqSnapshot { index: meta.index, term: meta.term, conf: conf_view(meta.get_conf_state()), data: view(&from.data) })
}

fn hold(output: Output) -> Box<Held> {
    let mut entry_lists: Vec<Vec<RqEntry>> = Vec::new();
    let mut snapshots: Vec<Box<RqSnapshot>> = Vec::new();
    let mut message_list = |list: &Vec<Message>| -> Vec<RqMessage> {
        list.iter()
            .map(|m| {
                let carries_context = matches!(m.get_msg_type(), MessageType::MsgReadIndex | MessageType::MsgReadIndexResp);
                let context = if carries_context { m.entries.first().map_or(view(&[]), |e| view(&e.data)) } else { view(&m.context) };
                let list: Vec<RqEntry> = if carries_context { Vec::new() } else { m.entries.iter().map(entry_view).collect() };
                let (entries, entries_size) = (list.as_ptr(), list.len());
                entry_lists.push(list);
                let mut pointer = std::ptr::null();
                if m.get_msg_type() == MessageType::MsgSnapshot {
                    snapshots.push(snapshot_view(m.get_snapshot()));
                    pointer = &**snapshots.last().unwrap() as *const RqSnapshot;
                }
                RqMessage {
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
                    context,
                    entries,
                    entries_size,
                    snapshot: pointer,
                    kind: m.get_msg_type() as u8,
                    reject: m.reject as u8,
                }
            })
            .collect()
    };
    let messages = message_list(&output.messages);
    let messages_after_persist = message_list(&output.messages_after_persist);
    let appended: Vec<RqEntry> = output.entries.iter().map(entry_view).collect();
    let committed: Vec<RqEntry> = output.committed.iter().map(entry_view).collect();
    let reads: Vec<RqRead> = output.reads.iter().map(|r| RqRead { index: r.0, context: view(&r.1) }).collect();
    let fetches: Vec<RqFetch> = output.fetches.iter().map(|f| RqFetch { token: f.0, first: f.0, last: f.1 }).collect();
    let hard_state = output.hard_state.as_ref().map(|h| Box::new(RqHardState { term: h.term, vote: h.vote, commit: h.commit }));
    let mut received = std::ptr::null();
    if let Some(snapshot) = &output.snapshot {
        snapshots.push(snapshot_view(snapshot));
        received = &**snapshots.last().unwrap() as *const RqSnapshot;
    }
    let ready = RqReady {
        number: output.number,
        messages: messages.as_ptr(),
        messages_size: messages.len(),
        messages_after_persist: messages_after_persist.as_ptr(),
        messages_after_persist_size: messages_after_persist.len(),
        entries: appended.as_ptr(),
        entries_size: appended.len(),
        committed: committed.as_ptr(),
        committed_size: committed.len(),
        reads: reads.as_ptr(),
        reads_size: reads.len(),
        fetches: fetches.as_ptr(),
        fetches_size: fetches.len(),
        hard_state: hard_state.as_ref().map_or(std::ptr::null(), |h| &**h as *const RqHardState),
        snapshot: received,
        must_sync: output.must_sync as u8,
        role_changed: output.role_changed as u8,
    };
    // Moving the vectors moves no element: the pointers stay good.
    entry_lists.push(appended);
    entry_lists.push(committed);
    Box::new(Held {
        _output: output,
        _entries: entry_lists,
        _messages: vec![messages, messages_after_persist],
        _snapshots: snapshots,
        _reads: reads,
        _fetches: fetches,
        _hard_state: hard_state,
        ready,
    })
}

// ---- the calls

fn code(fail: &Fail) -> i32 {
    match fail {
        Fail::NotLeader => 1,
        Fail::Busy => 2,
        Fail::Transfer => 3,
        Fail::Internal(_) => INTERNAL,
    }
}

/// Runs `work` on a started, healthy engine. A panic or an internal error poisons it for good (trap 8).
fn guarded<T>(engine: *mut RqEngine, work: impl FnOnce(&mut Machine) -> Outcome<T>) -> Result<T, i32> {
    let engine = unsafe { &mut *engine };
    if !engine.fault.is_empty() {
        return Err(INTERNAL);
    }
    let Some(machine) = engine.machine.as_mut() else { return Err(INTERNAL) };
    match catch_unwind(AssertUnwindSafe(|| work(machine))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fail)) => {
            if let Fail::Internal(text) = &fail {
                engine.fault = text.clone();
            }
            Err(code(&fail))
        }
        Err(panic) => {
            engine.fault = panic_text(panic);
            Err(INTERNAL)
        }
    }
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_string()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "panic".to_string()
    }
}

fn unit(result: Result<(), i32>) -> i32 {
    result.err().unwrap_or(OK)
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_new(options: *const RqOptions) -> *mut RqEngine {
    let o = &*options;
    let settings = Settings {
        id: o.id,
        election_ticks: o.election_ticks as usize,
        heartbeat_ticks: o.heartbeat_ticks as usize,
        seed: o.seed,
        max_message_bytes: o.max_message_bytes,
        max_inflight_messages: o.max_inflight_messages as usize,
        max_uncommitted_bytes: o.max_uncommitted_bytes,
        max_committed_bytes_per_ready: o.max_committed_bytes_per_ready,
        cache_bytes: o.cache_bytes as usize,
    };
    Box::into_raw(Box::new(RqEngine {
        settings: Some(settings),
        machine: None,
        fault: String::new(),
        held: None,
        conf: ConfState::default(),
    }))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_free(engine: *mut RqEngine) {
    drop(Box::from_raw(engine));
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_fault(engine: *const RqEngine) -> RqBytes {
    view((*engine).fault.as_bytes())
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_start(engine: *mut RqEngine, start: *const RqStart) -> i32 {
    let engine = &mut *engine;
    let start = &*start;
    let Some(settings) = engine.settings.take() else { return INTERNAL };
    let made = catch_unwind(AssertUnwindSafe(|| {
        let mut core = Core::default();
        core.hard_state.term = start.hard_state.term;
        core.hard_state.vote = start.hard_state.vote;
        core.hard_state.commit = start.hard_state.commit;
        core.conf_state = conf_state(&start.conf);
        let runs = slice(start.term_starts, start.term_starts_size * 2).chunks(2).map(|pair| (pair[0], pair[1])).collect();
        core.set_log(start.first_index, start.last_index, start.snapshot_term, runs);
        core.load(entries(start.entries, start.entries_size));
        Machine::new(settings, core, start.applied)
    }));
    match made {
        Ok(Ok(machine)) => {
            engine.machine = Some(machine);
            OK
        }
        Ok(Err(Fail::Internal(text))) => {
            engine.fault = text;
            INTERNAL
        }
        Ok(Err(_)) => INTERNAL,
        Err(panic) => {
            engine.fault = panic_text(panic);
            INTERNAL
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_tick(engine: *mut RqEngine) -> i32 {
    unit(guarded(engine, |m| m.tick()))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_step(engine: *mut RqEngine, from: *const RqMessage) -> i32 {
    let Some(message) = message(&*from) else { return OK };
    unit(guarded(engine, |m| m.step(message)))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_campaign(engine: *mut RqEngine) -> i32 {
    unit(guarded(engine, |m| m.campaign()))
}

unsafe fn give_index(result: Result<u64, i32>, index: *mut u64) -> i32 {
    match result {
        Ok(value) => {
            *index = value;
            OK
        }
        Err(code) => code,
    }
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_propose(engine: *mut RqEngine, payload: RqBytes, index: *mut u64) -> i32 {
    let payload = bytes(&payload);
    give_index(guarded(engine, |m| m.propose(payload)), index)
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_propose_conf(
    engine: *mut RqEngine, steps: *const RqConfStep, steps_size: usize, joint: u8, payload: RqBytes, index: *mut u64,
) -> i32 {
    let change = conf_change(steps, steps_size, joint);
    let payload = bytes(&payload);
    give_index(guarded(engine, |m| m.propose_conf(change, payload)), index)
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_apply_conf(
    engine: *mut RqEngine, steps: *const RqConfStep, steps_size: usize, joint: u8, out: *mut RqConf,
) -> i32 {
    let change = conf_change(steps, steps_size, joint);
    match guarded(engine, |m| m.apply_conf(change)) {
        Ok(state) => {
            (*engine).conf = state;
            *out = conf_view(&(*engine).conf);
            OK
        }
        Err(code) => code,
    }
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_read_index(engine: *mut RqEngine, context: RqBytes) -> i32 {
    let context = bytes(&context);
    unit(guarded(engine, |m| m.read_index(context)))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_transfer(engine: *mut RqEngine, to: u64) -> i32 {
    unit(guarded(engine, |m| m.transfer(to)))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_forget_leader(engine: *mut RqEngine) -> i32 {
    unit(guarded(engine, |m| m.forget_leader()))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_report(engine: *mut RqEngine, peer: u64, what: u8) -> i32 {
    unit(guarded(engine, |m| m.report(peer, what)))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_offer_snapshot(engine: *mut RqEngine, peer: u64, from: *const RqSnapshot) -> i32 {
    let offered = snapshot(&*from);
    unit(guarded(engine, |m| {
        m.offer_snapshot(peer, offered);
        Ok(())
    }))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_take_wanted(engine: *mut RqEngine, out: *mut u64, out_size: usize) -> usize {
    let wanted = guarded(engine, |m| Ok(m.take_wanted())).unwrap_or_default();
    let count = wanted.len().min(out_size);
    for (i, id) in wanted.iter().take(count).enumerate() {
        *out.add(i) = *id;
    }
    count
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_fetched(engine: *mut RqEngine, token: u64, data: *const RqEntry, size: usize) -> i32 {
    let list = entries(data, size);
    unit(guarded(engine, |m| m.fetched(token, list)))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_persisted(engine: *mut RqEngine, number: u64) -> i32 {
    unit(guarded(engine, |m| m.persisted(number)))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_snapshot_installed(engine: *mut RqEngine, index: u64) -> i32 {
    unit(guarded(engine, |m| m.snapshot_installed(index)))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_compact(engine: *mut RqEngine, first_kept: u64, term_before: u64) -> i32 {
    unit(guarded(engine, |m| {
        m.compact(first_kept, term_before);
        Ok(())
    }))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_has_ready(engine: *mut RqEngine) -> u8 {
    guarded(engine, |m| Ok(m.has_ready())).unwrap_or(false) as u8
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_take_ready(engine: *mut RqEngine, out: *mut *const RqReady) -> i32 {
    match guarded(engine, |m| m.take_ready()) {
        Ok(output) => {
            let held = hold(output);
            *out = &held.ready;
            (*engine).held = Some(held);
            OK
        }
        Err(code) => code,
    }
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_status(engine: *const RqEngine, out: *mut RqStatus) {
    let Some(machine) = (*engine).machine.as_ref() else { return };
    let raft = machine.raft();
    *out = RqStatus {
        leader: raft.leader_id,
        term: raft.term,
        commit: raft.raft_log.committed,
        applied: raft.raft_log.applied,
        first_index: raft.raft_log.first_index(),
        last_index: raft.raft_log.last_index(),
        last_term: raft.raft_log.last_term(),
        transferee: raft.lead_transferee.unwrap_or(0),
        role: match raft.state {
            StateRole::Follower => 0,
            StateRole::Candidate => 1,
            StateRole::PreCandidate => 2,
            StateRole::Leader => 3,
        },
        has_pending_conf: raft.has_pending_conf() as u8,
        own_term_committed: (raft.state == StateRole::Leader && raft.commit_to_current_term()) as u8,
    };
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_peers(engine: *const RqEngine, out: *mut RqPeer, out_size: usize) -> usize {
    let Some(machine) = (*engine).machine.as_ref() else { return 0 };
    let raft = machine.raft();
    if raft.state != StateRole::Leader {
        return 0;
    }
    let conf = raft.prs().conf().to_conf_state();
    let mut count = 0;
    for (id, progress) in raft.prs().iter() {
        if *id == raft.id {
            continue;
        }
        if count < out_size {
            *out.add(count) = RqPeer {
                id: *id,
                matched: progress.matched,
                next: progress.next_idx,
                learner: (!conf.voters.contains(id) && !conf.voters_outgoing.contains(id)) as u8,
                active: progress.recent_active as u8,
                paused: progress.is_paused() as u8,
                snapshotting: (progress.state == ProgressState::Snapshot) as u8,
            };
        }
        count += 1;
    }
    count
}
