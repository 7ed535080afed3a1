//! One member of the Raft group around raft-rs' RawNode: everything the C ABI offers, in Rust types.
use crate::store::{Core, Store};
use raft::eraftpb::*;
use raft::{Config, RawNode, ReadOnlyOption, Ready, SnapshotStatus, StateRole};
use std::cell::RefCell;

pub enum Fail {
    NotLeader,
    Busy,
    Transfer,
    Internal(String),
}
pub type Outcome<T> = Result<T, Fail>;

fn internal(error: impl std::fmt::Display) -> Fail {
    Fail::Internal(error.to_string())
}

pub struct Settings {
    pub id: u64,
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    pub seed: u64,
    pub max_message_bytes: u64,
    pub max_inflight_messages: usize,
    pub max_uncommitted_bytes: u64,
    pub max_committed_bytes_per_ready: u64,
    pub cache_bytes: usize,
}

/// What take_ready() gives besides raft-rs' own Ready.
pub struct Output {
    pub number: u64,
    pub messages: Vec<Message>,
    pub messages_after_persist: Vec<Message>,
    pub entries: Vec<Entry>,
    pub committed: Vec<Entry>,
    pub reads: Vec<(u64, Vec<u8>)>,
    pub fetches: Vec<(u64, u64)>,
    pub hard_state: Option<HardState>,
    pub snapshot: Option<Snapshot>,
    pub must_sync: bool,
    pub role_changed: bool,
}

pub struct Machine {
    node: RawNode<Store>,
    settings: Settings,
    random: u64,
    /// Handed over by the last Ready, told to raft-rs at the next call: the caller applies conf entries in between.
    handed_over: u64,
    /// A snapshot is being installed: nothing counts as handed over meanwhile (trap 1).
    installing: bool,
    shown: (StateRole, u64, u64),
}

impl Machine {
    pub fn new(settings: Settings, core: Core, applied: u64) -> Outcome<Machine> {
        let config = Config {
            id: settings.id,
            election_tick: settings.election_ticks,
            heartbeat_tick: settings.heartbeat_ticks,
            applied,
            max_size_per_msg: settings.max_message_bytes,
            max_inflight_msgs: settings.max_inflight_messages,
            check_quorum: true,
            pre_vote: true,
            // One value only: whatever raft-rs draws is this one, and is seen as drawn by set_timeout().
            min_election_tick: settings.election_ticks,
            max_election_tick: settings.election_ticks + 1,
            read_only_option: ReadOnlyOption::Safe,
            skip_bcast_commit: false,
            batch_append: false,
            priority: 0,
            max_uncommitted_size: settings.max_uncommitted_bytes,
            max_committed_size_per_ready: settings.max_committed_bytes_per_ready,
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, Store(RefCell::new(core)), &logger).map_err(internal)?;
        let random = settings.seed ^ settings.id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut machine =
            Machine { node, settings, random, handed_over: applied, installing: false, shown: (StateRole::Follower, 0, 0) };
        machine.set_timeout();
        Ok(machine)
    }

    fn core(&self) -> std::cell::RefMut<'_, Core> {
        self.node.raft.store().0.borrow_mut()
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// raft-rs draws its timeouts from a thread-local generator; ours come from the caller's seed.
    fn set_timeout(&mut self) {
        let ticks = self.settings.election_ticks;
        if self.node.raft.randomized_election_timeout() != ticks {
            return;
        }
        let timeout = ticks + 1 + (self.next_random() % ticks as u64) as usize;
        self.node.raft.set_randomized_election_timeout(timeout);
    }

    /// Every input begins and ends here.
    fn input<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.flush_handed_over();
        let result = work(self);
        self.set_timeout();
        result
    }

    fn flush_handed_over(&mut self) {
        if !self.installing && self.handed_over > self.node.raft.raft_log.applied {
            self.node.advance_apply_to(self.handed_over);
        }
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub fn tick(&mut self) -> Outcome<()> {
        self.input(|m| {
            m.node.tick();
            Ok(())
        })
    }

    pub fn campaign(&mut self) -> Outcome<()> {
        self.input(|m| match m.node.campaign() {
            Ok(()) | Err(raft::Error::ProposalDropped) => Ok(()),
            Err(error) => Err(internal(error)),
        })
    }

    pub fn step(&mut self, message: Message) -> Outcome<()> {
        self.input(|m| {
            let beyond_our_log = message.get_msg_type() == MessageType::MsgHeartbeat
                && message.commit > m.node.raft.raft_log.last_index();
            if message.to != m.settings.id || beyond_our_log {
                return Ok(()); // trap 8: fatal inside
            }
            // Errors here say that the message is stale or of a stranger: dropped, as a lost one.
            let _ = m.node.step(message);
            Ok(())
        })
    }

    fn may_propose(&self) -> Outcome<()> {
        if !self.leads() {
            return Err(Fail::NotLeader);
        }
        if self.node.raft.lead_transferee.is_some() {
            return Err(Fail::Transfer);
        }
        Ok(())
    }

    pub fn propose(&mut self, payload: Vec<u8>) -> Outcome<u64> {
        self.input(|m| {
            m.may_propose()?;
            match m.node.propose(Vec::new(), payload) {
                Ok(()) => Ok(m.node.raft.raft_log.last_index()),
                Err(raft::Error::ProposalDropped) => Err(Fail::Busy),
                Err(error) => Err(internal(error)),
            }
        })
    }

    /// `payload` travels as the entry's context; raft-rs' own form of the change is of no use behind this call.
    pub fn propose_conf(&mut self, change: ConfChangeV2, payload: Vec<u8>) -> Outcome<u64> {
        self.input(|m| {
            m.may_propose()?;
            let joint = !m.node.raft.prs().conf().to_conf_state().voters_outgoing.is_empty();
            // raft-rs turns a change that it refuses into an empty entry: it is told apart here, before.
            if m.node.raft.has_pending_conf() || joint != change.changes.is_empty() {
                return Err(Fail::Busy);
            }
            match m.node.propose_conf_change(payload, change) {
                Ok(()) => Ok(m.node.raft.raft_log.last_index()),
                Err(raft::Error::ProposalDropped) => Err(Fail::Busy),
                Err(error) => Err(internal(error)),
            }
        })
    }

    pub fn apply_conf(&mut self, change: ConfChangeV2) -> Outcome<ConfState> {
        let state = self.node.apply_conf_change(&change).map_err(internal)?;
        self.core().conf_state = state.clone();
        if self.leads() && !state.voters.contains(&self.settings.id) && !state.voters_outgoing.contains(&self.settings.id) {
            let term = self.node.raft.term; // trap 5
            self.node.raft.become_follower(term, 0);
        }
        self.set_timeout();
        Ok(state)
    }

    pub fn read_index(&mut self, context: Vec<u8>) -> Outcome<()> {
        self.input(|m| {
            let ready = if m.leads() { m.node.raft.commit_to_current_term() } else { m.node.raft.leader_id != 0 };
            if !ready {
                return Err(Fail::NotLeader); // trap 12: dropped silently inside
            }
            m.node.read_index(context);
            Ok(())
        })
    }

    pub fn transfer(&mut self, to: u64) -> Outcome<()> {
        self.input(|m| {
            if !m.leads() {
                return Err(Fail::NotLeader);
            }
            m.node.transfer_leader(to);
            Ok(())
        })
    }

    pub fn forget_leader(&mut self) -> Outcome<()> {
        self.input(|m| {
            let term = m.node.raft.term;
            m.node.raft.become_follower(term, 0); // keeps term and vote (trap 14)
            Ok(())
        })
    }

    pub fn report(&mut self, peer: u64, what: u8) -> Outcome<()> {
        self.input(|m| {
            match what {
                0 => m.node.report_unreachable(peer),
                1 => m.node.report_snapshot(peer, SnapshotStatus::Failure),
                _ => m.node.report_snapshot(peer, SnapshotStatus::Finish),
            }
            Ok(())
        })
    }

    pub fn offer_snapshot(&mut self, peer: u64, snapshot: Snapshot) {
        let lists = {
            let conf = snapshot.get_metadata().get_conf_state();
            conf.voters.contains(&peer) || conf.learners.contains(&peer) || conf.voters_outgoing.contains(&peer)
        };
        if lists {
            self.core().offered.insert(peer, snapshot); // trap 6: others would be ignored by the receiver
        }
    }

    pub fn take_wanted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.core().wanted)
    }

    pub fn fetched(&mut self, token: u64, entries: Vec<Entry>) -> Outcome<()> {
        self.input(|m| {
            let contexts = m.core().fetched(token, entries);
            for context in contexts {
                m.node.on_entries_fetched(context);
            }
            m.core().fetch_done(token);
            Ok(())
        })
    }

    pub fn persisted(&mut self, number: u64) -> Outcome<()> {
        self.input(|m| {
            m.node.on_persist_ready(number);
            Ok(())
        })
    }

    pub fn snapshot_installed(&mut self, index: u64) -> Outcome<()> {
        self.installing = false;
        self.handed_over = self.handed_over.max(index);
        self.input(|_| Ok(()))
    }

    pub fn compact(&mut self, first_kept: u64, term_before: u64) {
        self.core().compact(first_kept, term_before);
    }

    pub fn has_ready(&mut self) -> bool {
        self.flush_handed_over();
        self.node.has_ready() || !self.core().fetch_requests.is_empty() || self.role() != self.shown
    }

    fn role(&self) -> (StateRole, u64, u64) {
        (self.node.raft.state, self.node.raft.leader_id, self.node.raft.term)
    }

    pub fn take_ready(&mut self) -> Outcome<Output> {
        self.flush_handed_over();
        let mut ready: Ready = self.node.ready();
        let snapshot = if ready.snapshot().is_empty() { None } else { Some(ready.snapshot().clone()) };
        {
            let mut core = self.core();
            if let Some(snapshot) = &snapshot {
                core.apply_snapshot(snapshot);
            }
            core.append(ready.entries());
            if let Some(hard_state) = ready.hs() {
                core.hard_state = hard_state.clone();
            }
        }
        let committed = ready.take_committed_entries();
        if let Some(last) = committed.last() {
            self.handed_over = last.index;
        }
        self.installing |= snapshot.is_some();
        let role = self.role();
        let role_changed = role != self.shown;
        self.shown = role;
        let output = Output {
            number: ready.number(),
            messages: ready.take_messages(),
            messages_after_persist: ready.take_persisted_messages(),
            entries: ready.entries().clone(),
            committed,
            reads: ready.take_read_states().into_iter().map(|r| (r.index, r.request_ctx)).collect(),
            fetches: std::mem::take(&mut self.core().fetch_requests),
            hard_state: ready.hs().cloned(),
            snapshot,
            must_sync: ready.must_sync(),
            role_changed,
        };
        self.node.advance_append_async(ready);
        let applied = self.node.raft.raft_log.applied;
        let cache_bytes = self.settings.cache_bytes;
        self.core().evict(applied, cache_bytes);
        self.set_timeout();
        Ok(output)
    }

    pub fn raft(&self) -> &raft::Raft<Store> {
        &self.node.raft
    }
}
