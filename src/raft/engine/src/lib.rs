//! The consensus engine of ../../engine.h on the crate raft, behind the C ABI of ../../engine_abi.h.
#![allow(clippy::missing_safety_doc)] // the contract stands in engine_abi.h
#![allow(clippy::field_reassign_with_default)] // protobuf structs have private fields

mod abi;
mod checks;
mod machine;
mod outbox;
mod payload;
mod store;

use abi::*;
use machine::{Fail, Machine, Outcome, Settings, Start};
use payload::Lender;
use raft::eraftpb::{ConfState, HardState};
use raft::{ProgressState, StateRole};
use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Once};

const OK: i32 = 0;
const INTERNAL: i32 = 6;
const LOG_LINES_MAX: usize = 64;

pub struct RqEngine {
    settings: Option<Settings>,
    lender: Lender,
    machine: Option<Machine>,
    poisoned: bool,
    error: String,
    glance: RqGlance,
    held: Box<Held>,
    ready: RqReady,
    conf: ConfState,
    peers: Vec<RqPeer>,
    log: Arc<Mutex<Vec<String>>>,
}

// ---- what raft-rs logs, and why it panicked

/// Keeps warnings for the next Ready; the rest is not even formatted.
struct Warnings(Arc<Mutex<Vec<String>>>);

impl slog::Drain for Warnings {
    type Ok = ();
    type Err = slog::Never;
    fn log(&self, record: &slog::Record, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        if record.level().is_at_least(slog::Level::Warning) {
            if let Ok(mut lines) = self.0.lock() {
                if lines.len() < LOG_LINES_MAX {
                    lines.push(record.msg().to_string());
                }
            }
        }
        Ok(())
    }
}

thread_local! {
    static PANIC: RefCell<String> = RefCell::new(String::new());
}

/// Panics are kept for rq_engine_error() instead of being printed: the caller decides what to log.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let text = match (info.payload().downcast_ref::<&str>(), info.payload().downcast_ref::<String>()) {
                (Some(text), _) => text.to_string(),
                (_, Some(text)) => text.clone(),
                _ => "panic".to_string(),
            };
            let place = info.location().map_or(String::new(), |l| format!(" ({}:{})", l.file(), l.line()));
            PANIC.with(|kept| *kept.borrow_mut() = text + &place);
        }));
    });
}

// ---- guarding

fn code_of(fail: &Fail) -> i32 {
    match fail {
        Fail::NotLeader => 1,
        Fail::Busy => 2,
        Fail::Transfer => 3,
        Fail::BadRequest(_) => 4,
        Fail::Corrupt(_) => 5,
        Fail::Misuse(_) => INTERNAL,
    }
}

impl RqEngine {
    fn fail(&mut self, fail: Fail) -> i32 {
        let code = code_of(&fail);
        self.poisoned |= code == INTERNAL;
        self.error = match fail {
            Fail::BadRequest(text) | Fail::Corrupt(text) | Fail::Misuse(text) => text,
            Fail::NotLeader | Fail::Busy | Fail::Transfer => String::new(),
        };
        code
    }

    fn catch<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Result<T, i32> {
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(fail)) => Err(self.fail(fail)),
            Err(_) => {
                let text = PANIC.with(|kept| std::mem::take(&mut *kept.borrow_mut()));
                Err(self.fail(Fail::Misuse(text)))
            }
        }
    }

    fn look(&mut self) {
        let Some(machine) = &self.machine else { return };
        let raft = machine.raft();
        self.glance = RqGlance {
            leader: raft.leader_id,
            term: raft.term,
            commit: raft.raft_log.committed,
            role: match raft.state {
                StateRole::Follower => 0,
                StateRole::Candidate => 1,
                StateRole::PreCandidate => 2,
                StateRole::Leader => 3,
            },
        };
    }
}

fn not_started() -> Fail {
    Fail::Misuse("the engine was not started".to_string())
}

/// Runs `work` on a started, healthy engine. A panic or a misuse poisons it for good (trap 8).
unsafe fn guarded<T>(engine: *mut RqEngine, work: impl FnOnce(&mut Machine) -> Outcome<T>) -> Result<T, i32> {
    let engine = &mut *engine;
    if engine.poisoned {
        return Err(INTERNAL);
    }
    let result = engine.catch(|e| work(e.machine.as_mut().ok_or_else(not_started)?));
    engine.look();
    result
}

fn unit(result: Result<(), i32>) -> i32 {
    result.err().unwrap_or(OK)
}

unsafe fn give<T>(result: Result<T, i32>, out: *mut T) -> i32 {
    match result {
        Ok(value) => {
            *out = value;
            OK
        }
        Err(code) => code,
    }
}

// ---- the calls

#[no_mangle]
pub unsafe extern "C" fn rq_engine_new(options: *const RqOptions) -> *mut RqEngine {
    keep_panics();
    let o = &*options;
    let settings = Settings {
        id: o.id,
        election_ticks: o.election_ticks as usize,
        retry_ticks: o.retry_ticks.max(o.election_ticks) as usize,
        heartbeat_ticks: o.heartbeat_ticks as usize,
        seed: o.seed,
        max_message_bytes: o.max_message_bytes,
        max_inflight_messages: o.max_inflight_messages as usize,
        max_uncommitted_bytes: o.max_uncommitted_bytes,
        max_committed_bytes_per_ready: o.max_committed_bytes_per_ready,
        cache_bytes: o.cache_bytes as usize,
    };
    let mut held = Box::<Held>::default();
    let ready = held.hold(machine::Output::default(), Vec::new());
    Box::into_raw(Box::new(RqEngine {
        settings: Some(settings),
        lender: Lender { release: o.release, context: o.release_context },
        machine: None,
        poisoned: false,
        error: String::new(),
        glance: RqGlance::default(),
        held,
        ready,
        conf: ConfState::default(),
        peers: Vec::new(),
        log: Arc::default(),
    }))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_free(engine: *mut RqEngine) {
    let engine = Box::from_raw(engine);
    let _ = catch_unwind(AssertUnwindSafe(|| drop(engine)));
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_glance(engine: *const RqEngine) -> *const RqGlance {
    &(*engine).glance
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_error(engine: *const RqEngine) -> RqBytes {
    view((*engine).error.as_bytes())
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_start(engine: *mut RqEngine, start: *const RqStart) -> i32 {
    let engine = &mut *engine;
    let start = &*start;
    let entries = entries(start.entries, start.entries_size, engine.lender);
    if engine.poisoned {
        return INTERNAL;
    }
    let result = engine.catch(|e| {
        let settings = e.settings.take().ok_or_else(|| Fail::Misuse("the engine was started twice".to_string()))?;
        let mut hard_state = HardState::default();
        hard_state.term = start.hard_state.term;
        hard_state.vote = start.hard_state.vote;
        hard_state.commit = start.hard_state.commit;
        if start.first_index == 0 || start.last_index + 1 < start.first_index || !all_of_known_type(&entries) {
            return Err(Fail::Corrupt(format!("a log from {} to {}", start.first_index, start.last_index)));
        }
        let runs =
            slice(start.term_starts, start.term_starts_size * 2).chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let log = store::LogExtent {
            first_index: start.first_index,
            last_index: start.last_index,
            snapshot_term: start.snapshot_term,
            runs,
        };
        let start = Start {
            hard_state,
            conf_state: conf_state(&start.conf),
            conf_index: start.conf_index,
            applied: start.applied,
            log,
            entries,
        };
        let logger = slog::Logger::root(Warnings(e.log.clone()), slog::o!());
        e.machine = Some(Machine::new(settings, &logger, start)?);
        Ok(())
    });
    engine.look();
    unit(result)
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_signal(engine: *mut RqEngine, what: u8, value: u64) -> i32 {
    unit(guarded(engine, |m| {
        match what {
            0 => m.tick()?,
            1 => m.campaign()?,
            2 => m.forget_leader()?,
            3 => m.transfer(value)?,
            4 => m.report_unreachable(value),
            5 => m.report_snapshot(value, true),
            6 => m.report_snapshot(value, false),
            7 => m.persisted(value)?,
            8 => m.snapshot_installed(value)?,
            _ => return Err(Fail::Misuse(format!("unknown signal {what}"))),
        }
        Ok(())
    }))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_step(engine: *mut RqEngine, from: *const RqMessage) -> i32 {
    let message = message(&*from, (*engine).lender);
    unit(guarded(engine, |m| message.map_or(Ok(()), |message| m.step(message))))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_propose(engine: *mut RqEngine, payload: RqBytes, index: *mut u64) -> i32 {
    let payload = lent(payload, (*engine).lender);
    give(guarded(engine, |m| m.propose(payload)), index)
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_propose_conf(
    engine: *mut RqEngine,
    change: *const RqConfChange,
    payload: RqBytes,
    index: *mut u64,
) -> i32 {
    let payload = lent(payload, (*engine).lender);
    let change = conf_change(&*change);
    give(guarded(engine, |m| m.propose_conf(&change, payload)), index)
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_apply_conf(
    engine: *mut RqEngine,
    index: u64,
    change: *const RqConfChange,
    out: *mut RqConf,
) -> i32 {
    let change = conf_change(&*change);
    let result = guarded(engine, |m| m.apply_conf(index, &change));
    let result = result.map(|conf| {
        (*engine).conf = conf;
        conf_view(&(*engine).conf)
    });
    give(result, out)
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_read_index(engine: *mut RqEngine, context: RqBytes) -> i32 {
    unit(guarded(engine, |m| m.read_index(slice(context.data, context.size))))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_offer_snapshot(engine: *mut RqEngine, peer: u64, from: *const RqSnapshot) -> i32 {
    let offered = snapshot(&*from);
    unit(guarded(engine, |m| m.offer_snapshot(peer, offered)))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_fetched(
    engine: *mut RqEngine,
    first: u64,
    data: *const RqEntry,
    size: usize,
) -> i32 {
    let list = entries(data, size, (*engine).lender);
    unit(guarded(engine, |m| {
        m.fetched(first, list);
        Ok(())
    }))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_compact(engine: *mut RqEngine, first_kept: u64, term_before: u64) -> i32 {
    unit(guarded(engine, |m| m.compact(first_kept, term_before)))
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_has_ready(engine: *const RqEngine) -> u8 {
    let engine = &*engine;
    (!engine.poisoned && engine.machine.as_ref().map_or(false, |m| m.has_ready())) as u8
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_take_ready(engine: *mut RqEngine, out: *mut *const RqReady) -> i32 {
    let engine = &mut *engine;
    if engine.poisoned {
        return INTERNAL;
    }
    let result = engine.catch(|e| {
        let machine = e.machine.as_mut().ok_or_else(not_started)?;
        let output = machine.take_ready()?;
        let mut log = std::mem::take(&mut machine.log);
        if let Ok(mut lines) = e.log.lock() {
            log.append(&mut lines);
        }
        e.ready = e.held.hold(output, log);
        Ok(&e.ready as *const RqReady)
    });
    engine.look();
    give(result, out)
}

#[no_mangle]
pub unsafe extern "C" fn rq_engine_status(engine: *mut RqEngine, out: *mut RqStatus) -> i32 {
    let engine = &mut *engine;
    let Some(machine) = &engine.machine else { return INTERNAL };
    let (conf, peers) = (&mut engine.conf, &mut engine.peers);
    // Also of a poisoned engine: its last state, as far as it can be told.
    let status = catch_unwind(AssertUnwindSafe(|| status(machine, conf, peers)));
    match status {
        Ok(status) => {
            *out = status;
            OK
        }
        Err(_) => INTERNAL,
    }
}

fn status(machine: &Machine, conf: &mut ConfState, peers: &mut Vec<RqPeer>) -> RqStatus {
    let raft = machine.raft();
    let leads = raft.state == StateRole::Leader;
    *conf = raft.prs().conf().to_conf_state();
    peers.clear();
    for (id, progress) in raft.prs().iter().filter(|(id, _)| leads && **id != raft.id) {
        peers.push(RqPeer {
            id: *id,
            matched: progress.matched,
            next: progress.next_idx,
            learner: !raft.prs().conf().voters().contains(*id) as u8,
            active: progress.recent_active as u8,
            paused: progress.is_paused() as u8,
            snapshotting: (progress.state == ProgressState::Snapshot) as u8,
        });
    }
    peers.sort_by_key(|peer| peer.id);
    RqStatus {
        applied: machine.handed_over(),
        first_index: raft.raft_log.first_index(),
        last_index: raft.raft_log.last_index(),
        last_term: raft.raft_log.last_term(),
        transferee: raft.lead_transferee.unwrap_or(0),
        conf: conf_view(conf),
        peers: peers.as_ptr(),
        peers_size: peers.len(),
        has_pending_conf: raft.has_pending_conf() as u8,
        own_term_committed: (leads && raft.commit_to_current_term()) as u8,
    }
}
