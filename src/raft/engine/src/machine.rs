//! One member of the Raft group around raft-rs' RawNode. What raft-rs leaves to its caller, or gets wrong when it is
//! called at a bad moment, is settled here; "trap N" refers to docs/design/0001-consensus-engine.md.
//!
//! Invariants
//!   1. raft-rs' `applied` never passes a conf entry that apply_conf() has not been told of (traps 4, 11, 13).
//!   2. Nothing campaigns while a snapshot is being installed, a conf entry waits, or a part of the log is not durable:
//!      raft-rs panics then.
//!   3. Nothing is sent before the newest term and vote are durable; a leader's appends may overtake only entries.
//!   4. The election timeout in force was drawn from our own generator.
use crate::checks::{check_change, check_conf, check_message, is_joint, READS_MAX};
use crate::outbox::coalesce;
use crate::store::{LogExtent, Store};
use bytes::Bytes;
use raft::eraftpb::*;
use raft::{Config, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use std::collections::VecDeque;

#[derive(Debug)]
pub enum Fail {
    NotLeader,
    Busy,
    Transfer,
    BadRequest(String),
    Corrupt(String),
    /// The caller broke the contract: poisons the engine.
    Misuse(String),
}
pub type Outcome<T> = Result<T, Fail>;

pub struct Settings {
    pub id: u64,
    pub election_ticks: usize,
    /// Of a candidate; at least election_ticks.
    pub retry_ticks: usize,
    pub heartbeat_ticks: usize,
    pub seed: u64,
    pub max_message_bytes: u64,
    pub max_inflight_messages: usize,
    pub max_uncommitted_bytes: u64,
    pub max_committed_bytes_per_ready: u64,
    pub cache_bytes: usize,
}

pub struct Start {
    pub hard_state: HardState,
    pub conf_state: ConfState,
    pub conf_index: u64,
    pub applied: u64,
    pub log: LogExtent,
    pub entries: Vec<Entry>,
}

#[derive(Default)]
pub struct Output {
    pub number: u64,
    pub messages: Vec<Message>,
    pub messages_after_persist: Vec<Message>,
    pub entries: Vec<Entry>,
    pub committed: Vec<Entry>,
    pub reads: Vec<(u64, Vec<u8>)>,
    pub fetches: Vec<(u64, u64)>,
    pub wanted: Vec<u64>,
    pub hard_state: Option<HardState>,
    pub snapshot: Option<Snapshot>,
    pub must_sync: bool,
    pub role_changed: bool,
}

/// A received snapshot between its Ready and the moment when log and state machine both stand at it (trap 1).
struct Installing {
    index: u64,
    ready: u64,
    installed: bool,
}

/// Marks our read contexts: raft-rs drops a request whose context it has already, whoever sent it, and a leader may
/// still hold those of our previous life.
const READ_MARK: usize = 16;

const LOG_LINES_MAX: usize = 16;

pub struct Machine {
    pub node: RawNode<Store>,
    settings: Settings,
    random: u64,
    timeout: usize,
    timeout_of: (StateRole, u64),
    read_mark: [u8; READ_MARK],
    conf_index: u64,
    /// Conf entries that were handed over and not applied yet, by index.
    conf_waiting: VecDeque<u64>,
    handed_over: u64,
    installing: Option<Installing>,
    last_ready: u64,
    persisted_ready: u64,
    /// The newest Ready with a new term or vote.
    vote_ready: u64,
    vote: (u64, u64),
    /// Asked for at a moment when it was not possible.
    campaign_wanted: bool,
    timeout_now: Option<Message>,
    shown: (StateRole, u64, u64),
    pub log: Vec<String>,
}

fn is_conf(entry: &Entry) -> bool {
    entry.get_entry_type() != EntryType::EntryNormal
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Machine {
    pub fn new(settings: Settings, logger: &slog::Logger, mut start: Start) -> Outcome<Machine> {
        config(&settings, 0).validate().map_err(|e| Fail::BadRequest(e.to_string()))?;
        // What was handed over was committed, whatever the last hard state on disk says.
        let snapshot_index = start.log.first_index - 1;
        start.applied = start.applied.max(snapshot_index);
        let known = start.applied.max(start.conf_index);
        start.hard_state.commit = start.hard_state.commit.max(known);
        let (commit, applied, last) = (start.hard_state.commit, start.applied, start.log.last_index);
        if commit > last {
            return Err(Fail::Corrupt(format!("entry {commit} was committed but the log ends at {last}")));
        }
        let pending = |e: &&Entry| e.index > applied && e.index <= commit && e.index > start.conf_index && is_conf(e);
        let no_conf_until = start.entries.iter().find(pending).map_or(commit, |e| e.index - 1);
        check_conf(&start.conf_state, true).map_err(Fail::Corrupt)?;

        let mut random = settings.seed ^ settings.id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut mark = random ^ start.hard_state.term.rotate_left(40) ^ last ^ commit.rotate_left(20);
        let vote = (start.hard_state.term, start.hard_state.vote);
        let store = Store::recover(start.hard_state, start.conf_state, start.log, start.entries, applied)
            .map_err(Fail::Corrupt)?;
        let node =
            RawNode::new(&config(&settings, applied), store, logger).map_err(|e| Fail::Corrupt(e.to_string()))?;
        let timeout_of = (StateRole::Follower, vote.0);
        let mut read_mark = [0; READ_MARK];
        read_mark[..8].copy_from_slice(&settings.id.to_le_bytes());
        read_mark[8..].copy_from_slice(&splitmix(&mut mark).to_le_bytes());
        let timeout = settings.election_ticks + (splitmix(&mut random) % settings.election_ticks as u64) as usize;
        let mut machine = Machine {
            node,
            settings,
            random,
            timeout,
            timeout_of,
            read_mark,
            conf_index: start.conf_index,
            conf_waiting: VecDeque::new(),
            handed_over: applied,
            installing: None,
            last_ready: 0,
            persisted_ready: 0,
            vote_ready: 0,
            vote,
            campaign_wanted: false,
            timeout_now: None,
            shown: (StateRole::Follower, 0, vote.0),
            log: Vec::new(),
        };
        // Otherwise a lone voter refuses to stand because of conf entries that its membership contains already.
        if no_conf_until > machine.node.raft.raft_log.applied {
            machine.node.advance_apply_to(no_conf_until);
        }
        machine.settle();
        Ok(machine)
    }

    pub fn raft(&self) -> &raft::Raft<Store> {
        &self.node.raft
    }

    pub fn handed_over(&self) -> u64 {
        self.handed_over
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn draw_timeout(&mut self) {
        let campaigns = matches!(self.node.raft.state, StateRole::Candidate | StateRole::PreCandidate);
        let ticks = if campaigns { self.settings.retry_ticks } else { self.settings.election_ticks };
        self.timeout = ticks + (splitmix(&mut self.random) % ticks as u64) as usize;
    }

    /// After every input. raft-rs draws a timeout whenever it resets itself, from a thread-local generator: ours
    /// replaces it before anything looks at it.
    fn settle(&mut self) {
        let now = (self.node.raft.state, self.node.raft.term);
        if now != self.timeout_of {
            if now.1 != self.timeout_of.1 || now.0 == StateRole::Leader {
                self.campaign_wanted = false;
            }
            self.timeout_of = now;
            self.draw_timeout();
        }
        if self.node.raft.randomized_election_timeout() != self.timeout {
            self.node.raft.set_randomized_election_timeout(self.timeout);
        }
        if self.node.raft.leader_id != 0 {
            self.campaign_wanted = false;
        }
        // A received snapshot carries the membership: conf entries before it are done with.
        if let Some(snapshot) = self.node.raft.raft_log.unstable_snapshot() {
            self.conf_index = self.conf_index.max(snapshot.get_metadata().index);
            let conf_index = self.conf_index;
            self.conf_waiting.retain(|index| *index > conf_index);
        }
    }

    // ---- elections

    /// Invariant 2. What is missing comes with take_ready(), persisted(), apply_conf() or snapshot_installed(). While a
    /// snapshot is being installed, and while a conf entry waits, `applied` stays behind.
    fn may_campaign(&self) -> bool {
        let log = &self.node.raft.raft_log;
        log.persisted == log.last_index() && log.applied >= log.committed
    }

    pub fn tick(&mut self) -> Outcome<()> {
        let raft = &self.node.raft;
        let about_to_campaign = !self.leads() && raft.promotable() && raft.election_elapsed + 1 >= self.timeout;
        if about_to_campaign && !self.may_campaign() {
            return Ok(()); // the time is up at the first tick when it may
        }
        self.node.tick();
        self.settle();
        Ok(())
    }

    pub fn campaign(&mut self) -> Outcome<()> {
        self.campaign_wanted = !self.leads();
        self.campaign_if_wanted();
        Ok(())
    }

    fn campaign_if_wanted(&mut self) {
        if !self.campaign_wanted && self.timeout_now.is_none() || !self.may_campaign() {
            return;
        }
        if let Some(message) = self.timeout_now.take() {
            let _ = self.node.step(message); // stale ones are ignored
        }
        if std::mem::take(&mut self.campaign_wanted) && self.node.raft.promotable() {
            self.node.campaign().expect("a campaign begins or is ignored");
        }
        self.settle();
    }

    /// Trap 14: clears the lease, keeps term and vote. Also how a leader steps down.
    pub fn forget_leader(&mut self) -> Outcome<()> {
        if self.node.raft.leader_id != 0 {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
            self.draw_timeout();
            self.settle();
        }
        Ok(())
    }

    pub fn transfer(&mut self, to: u64) -> Outcome<()> {
        if !self.leads() {
            return Err(Fail::NotLeader);
        }
        if !self.node.raft.prs().conf().voters().contains(to) {
            return Err(Fail::BadRequest(format!("{to} is no voter")));
        }
        self.node.transfer_leader(to);
        self.settle();
        Ok(())
    }

    // ---- messages

    pub fn step(&mut self, message: Message) -> Outcome<()> {
        if let Err(why) = check_message(&self.node.raft, &self.read_mark, &message) {
            if !why.is_empty() && self.log.len() < LOG_LINES_MAX {
                self.log.push(format!("dropped a {:?} from {}: {why}", message.get_msg_type(), message.from));
            }
            return Ok(());
        }
        if message.get_msg_type() == MessageType::MsgTimeoutNow && !self.may_campaign() {
            self.timeout_now = Some(message);
            return Ok(());
        }
        // Errors say that the sender isn't known (any more) or that there was nothing to do.
        let _ = self.node.step(message);
        self.settle();
        Ok(())
    }

    // ---- proposals

    fn may_propose(&self) -> Outcome<()> {
        let raft = &self.node.raft;
        if !self.leads() || raft.prs().get(raft.id).is_none() {
            return Err(Fail::NotLeader);
        }
        if raft.lead_transferee.is_some() {
            return Err(Fail::Transfer);
        }
        Ok(())
    }

    /// What raft-rs does for a local MsgPropose, without its copies and, for conf entries, without its parsing.
    fn append(&mut self, entry: Entry) -> Outcome<u64> {
        let raft = &mut self.node.raft;
        if !raft.append_entry(&mut [entry]) {
            return Err(Fail::Busy);
        }
        raft.bcast_append();
        let index = raft.raft_log.last_index();
        self.settle();
        Ok(index)
    }

    pub fn propose(&mut self, payload: Bytes) -> Outcome<u64> {
        self.may_propose()?;
        let mut entry = Entry::default();
        entry.data = payload;
        self.append(entry)
    }

    /// raft-rs silently turns a change that it refuses into an empty entry, and one that is impossible into an error on
    /// every member at apply: both are refused here, to the proposer.
    pub fn propose_conf(&mut self, change: &ConfChangeV2, payload: Bytes) -> Outcome<u64> {
        self.may_propose()?;
        let raft = &mut self.node.raft;
        let joint = is_joint(raft);
        if raft.has_pending_conf() || !self.conf_waiting.is_empty() || (joint && !change.changes.is_empty()) {
            return Err(Fail::Busy);
        }
        check_change(raft, change).map_err(Fail::BadRequest)?;
        let before = raft.pending_conf_index;
        raft.pending_conf_index = raft.raft_log.last_index() + 1;
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.data = payload;
        let result = self.append(entry);
        if result.is_err() {
            self.node.raft.pending_conf_index = before;
        }
        result
    }

    // ---- membership

    pub fn apply_conf(&mut self, index: u64, change: &ConfChangeV2) -> Outcome<ConfState> {
        if index <= self.conf_index {
            return Ok(self.node.raft.prs().conf().to_conf_state()); // trap 4: it is in there already
        }
        if self.conf_waiting.front() != Some(&index) {
            return Err(Fail::Misuse(format!("conf entry {index} applied out of order, {:?} wait", self.conf_waiting)));
        }
        self.conf_waiting.pop_front();
        self.conf_index = index;
        if !change.changes.is_empty() || is_joint(&self.node.raft) {
            // A change that doesn't fit has no effect, on all members alike.
            if let Err(error) = self.node.apply_conf_change(change) {
                self.log.push(format!("conf entry {index} had no effect: {error}"));
            }
        }
        let conf = self.node.raft.prs().conf().to_conf_state();
        if self.leads() && !self.node.raft.prs().conf().voters().contains(self.settings.id) {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0); // trap 5
        }
        self.advance_applied();
        self.campaign_if_wanted();
        Ok(conf)
    }

    /// Tells raft-rs what was handed over (invariant 1).
    fn advance_applied(&mut self) {
        let log = &self.node.raft.raft_log;
        let target = self.conf_waiting.front().map_or(self.handed_over, |index| index - 1);
        if self.installing.is_none() && log.unstable_snapshot().is_none() && target > log.applied {
            let last = log.last_index();
            self.node.advance_apply_to(target);
            // It may have appended the entry that leaves a joint configuration; it doesn't send it.
            if self.leads() && self.node.raft.raft_log.last_index() > last {
                self.node.raft.bcast_append();
            }
        }
        self.settle();
    }

    // ---- reads

    pub fn read_index(&mut self, context: &[u8]) -> Outcome<()> {
        let raft = &self.node.raft;
        // Trap 12: raft-rs drops it silently in these cases.
        let heard = if self.leads() { raft.commit_to_current_term() } else { raft.leader_id != 0 };
        if !heard {
            return Err(Fail::NotLeader);
        }
        if raft.pending_read_count() >= READS_MAX {
            return Err(Fail::Busy);
        }
        let mut marked = Vec::with_capacity(READ_MARK + context.len());
        marked.extend_from_slice(&self.read_mark);
        marked.extend_from_slice(context);
        self.node.read_index(marked);
        self.settle();
        Ok(())
    }

    // ---- peers

    pub fn report_unreachable(&mut self, peer: u64) {
        self.node.report_unreachable(peer);
        self.settle();
    }

    pub fn report_snapshot(&mut self, peer: u64, arrived: bool) {
        self.node.report_snapshot(peer, if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure });
        self.settle();
    }

    pub fn offer_snapshot(&mut self, peer: u64, snapshot: Snapshot) -> Outcome<()> {
        let meta = snapshot.get_metadata();
        if meta.index == 0 || meta.index > self.handed_over || meta.term == 0 {
            return Err(Fail::Misuse(format!(
                "a snapshot at {} is offered, {} was handed over",
                meta.index, self.handed_over
            )));
        }
        check_conf(meta.get_conf_state(), false).map_err(Fail::Misuse)?;
        self.node.mut_store().offer(peer, snapshot);
        if self.leads() && peer != self.settings.id && self.node.raft.prs().get(peer).is_some() {
            self.node.raft.send_append(peer); // else it would wait for the peer's next heartbeat
        }
        self.settle();
        Ok(())
    }

    pub fn fetched(&mut self, first: u64, entries: Vec<Entry>) {
        for retry in self.node.mut_store().fetched(first, entries) {
            self.node.on_entries_fetched(retry);
        }
        self.settle();
    }

    // ---- storage

    pub fn persisted(&mut self, number: u64) -> Outcome<()> {
        if number > self.last_ready {
            return Err(Fail::Misuse(format!("ready {number} was persisted, the last one is {}", self.last_ready)));
        }
        if number > self.persisted_ready {
            self.persisted_ready = number;
            self.node.on_persist_ready(number);
            self.finish_install();
            self.settle();
            self.campaign_if_wanted();
        }
        Ok(())
    }

    pub fn snapshot_installed(&mut self, index: u64) -> Outcome<()> {
        match &mut self.installing {
            Some(installing) if installing.index == index => installing.installed = true,
            _ if index <= self.handed_over => return Ok(()), // a newer one came meanwhile
            _ => return Err(Fail::Misuse(format!("no snapshot at {index} is being installed"))),
        }
        self.finish_install();
        self.campaign_if_wanted();
        Ok(())
    }

    fn finish_install(&mut self) {
        if self.installing.as_ref().map_or(false, |i| i.installed && i.ready <= self.persisted_ready) {
            self.installing = None;
            self.advance_applied();
        }
    }

    pub fn compact(&mut self, first_kept: u64, term_before: u64) -> Outcome<()> {
        let store = self.node.raft.store();
        if first_kept <= store.first() {
            return Ok(());
        }
        let handed_over = self.handed_over.min(self.node.raft.raft_log.applied);
        if first_kept > handed_over + 1 {
            return Err(Fail::Misuse(format!("compacted up to {first_kept}, {handed_over} was handed over")));
        }
        let known = store.term_of(first_kept - 1).unwrap_or(0);
        if known != term_before {
            return Err(Fail::Misuse(format!("entry {} has term {known}, not {term_before}", first_kept - 1)));
        }
        self.node.mut_store().compact(first_kept);
        Ok(())
    }

    // ---- output

    fn role(&self) -> (StateRole, u64, u64) {
        let raft = &self.node.raft;
        (raft.state, raft.leader_id, raft.term)
    }

    pub fn has_ready(&self) -> bool {
        let needs = self.node.raft.store().needs.borrow();
        self.node.has_ready() || !needs.fetches.is_empty() || !needs.snapshots.is_empty() || self.role() != self.shown
    }

    pub fn take_ready(&mut self) -> Outcome<Output> {
        let mut ready = self.node.ready();
        let mut out = Output { number: ready.number(), must_sync: ready.must_sync(), ..Output::default() };
        self.last_ready = out.number;
        if !ready.snapshot().is_empty() {
            let snapshot = ready.snapshot().clone();
            let index = snapshot.get_metadata().index;
            self.node.mut_store().apply_snapshot(&snapshot);
            self.installing = Some(Installing { index, ready: out.number, installed: false });
            self.handed_over = self.handed_over.max(index);
            out.snapshot = Some(snapshot);
        }
        out.entries = ready.take_entries();
        self.node.mut_store().append(&out.entries);
        out.committed = ready.take_committed_entries();
        self.note_handed_over(&out.committed);
        out.reads = ready.take_read_states().into_iter().map(|r| (r.index, unmark(r.request_ctx))).collect();
        out.hard_state = ready.hs().cloned();
        self.sort_messages(&mut out, ready.take_messages(), ready.take_persisted_messages());
        self.node.advance_append_async(ready);
        self.advance_applied();
        self.campaign_if_wanted();
        self.tidy_store();

        let mut needs = self.node.raft.store().needs.borrow_mut();
        out.fetches = std::mem::take(&mut needs.fetches);
        out.wanted = std::mem::take(&mut needs.snapshots).into_iter().collect();
        drop(needs);
        let role = self.role();
        out.role_changed = role != self.shown;
        self.shown = role;
        Ok(out)
    }

    fn note_handed_over(&mut self, committed: &[Entry]) {
        for entry in committed.iter().filter(|e| e.index > self.conf_index && is_conf(e)) {
            self.conf_waiting.push_back(entry.index);
        }
        if let Some(entry) = committed.last() {
            self.handed_over = entry.index;
        }
    }

    /// A leader sends while it writes (thesis 10.2.1), but only under a term that is durable: a lone voter leads at once,
    /// and after a crash it would lead again in the same term and send its learners other entries.
    fn sort_messages(&mut self, out: &mut Output, now: Vec<Message>, after_persist: Vec<Message>) {
        if let Some(hard_state) = &out.hard_state {
            if (hard_state.term, hard_state.vote) != self.vote {
                self.vote = (hard_state.term, hard_state.vote);
                self.vote_ready = out.number;
            }
        }
        let max_bytes = self.settings.max_message_bytes;
        let now = coalesce(now, max_bytes);
        out.messages_after_persist = coalesce(after_persist, max_bytes);
        if self.vote_ready > self.persisted_ready {
            out.messages_after_persist.extend(now);
        } else {
            out.messages = now;
        }
    }

    fn tidy_store(&mut self) {
        let handed_over = self.handed_over.min(self.node.raft.raft_log.applied);
        let cache_bytes = self.settings.cache_bytes;
        self.node.mut_store().evict(handed_over, cache_bytes);
        if self.node.raft.store().has_read() {
            let leads = self.leads();
            let next: Vec<u64> = self.node.raft.prs().iter().map(|(_, pr)| pr.next_idx).collect();
            self.node.mut_store().forget_read(|first, last| leads && next.iter().any(|n| (first..=last).contains(n)));
        }
    }
}

fn config(settings: &Settings, applied: u64) -> Config {
    Config {
        id: settings.id,
        election_tick: settings.election_ticks,
        max_election_tick: 2 * settings.retry_ticks,
        heartbeat_tick: settings.heartbeat_ticks,
        applied,
        max_size_per_msg: settings.max_message_bytes,
        max_inflight_msgs: settings.max_inflight_messages,
        check_quorum: true,
        pre_vote: true,
        read_only_option: ReadOnlyOption::Safe,
        skip_bcast_commit: false,
        // raft-rs' own batching ignores max_size_per_msg and joins entries that don't follow each other; see outbox.rs.
        batch_append: false,
        max_uncommitted_size: settings.max_uncommitted_bytes,
        max_committed_size_per_ready: settings.max_committed_bytes_per_ready,
        ..Config::default()
    }
}

fn unmark(mut context: Vec<u8>) -> Vec<u8> {
    context.drain(..READ_MARK.min(context.len()));
    context
}
