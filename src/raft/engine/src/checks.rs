//! What is refused before raft-rs sees it: it panics on messages and memberships that contradict themselves, and believes
//! impossible acknowledgements (trap 8).
use crate::store::Store;
use raft::eraftpb::*;
use raft::{Changer, Raft, StateRole};

/// Beyond any index or term that there can be, and far from an overflow.
const LIMIT: u64 = 1 << 62;

/// Reads that wait for a majority at one leader; each is a heartbeat round.
pub const READS_MAX: usize = 65_536;

/// Whatever would make raft-rs panic, or believe what can't be, is refused before it gets there (trap 8). An empty reason:
/// it happens to honest peers, and they try again.
pub fn check_message(raft: &Raft<Store>, read_mark: &[u8], m: &Message) -> Result<(), &'static str> {
    let leads = raft.state == StateRole::Leader;
    let last = raft.raft_log.last_index();
    let kind = m.get_msg_type();
    if m.from == 0 || m.from == raft.id || m.to != raft.id {
        return Err("wrong address");
    }
    if m.term >= LIMIT || m.index >= LIMIT || m.commit >= LIMIT || m.request_snapshot != 0 {
        return Err("impossible numbers");
    }
    if (m.term == 0) != (kind == MessageType::MsgReadIndex) {
        return Err("a message without term is a local one");
    }
    match kind {
        MessageType::MsgAppend => check_entries(m),
        MessageType::MsgSnapshot => check_snapshot(m),
        MessageType::MsgAppendResponse if leads && m.term == raft.term => {
            let end = if m.reject { m.reject_hint } else { m.index };
            (end <= last).then_some(()).ok_or("acknowledges what is not in our log")
        }
        MessageType::MsgHeartbeat if m.term >= raft.term && m.commit > last => Err("its commit is beyond our log"),
        MessageType::MsgReadIndex if !leads || raft.pending_read_count() >= READS_MAX => Err(""),
        MessageType::MsgReadIndexResp if !is_our_read(m, read_mark) => Err(""),
        MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgTimeoutNow
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse => Ok(()),
        _ => Err("not a message between members"),
    }
}

fn is_our_read(m: &Message, read_mark: &[u8]) -> bool {
    m.entries.len() == 1 && m.entries[0].data.starts_with(read_mark)
}

pub fn is_joint(raft: &Raft<Store>) -> bool {
    !raft.prs().conf().to_conf_state().voters_outgoing.is_empty()
}

pub fn check_change(raft: &Raft<Store>, change: &ConfChangeV2) -> Result<(), String> {
    if change.changes.is_empty() {
        return Ok(());
    }
    let mut changer = Changer::new(raft.prs());
    let result = match change.enter_joint() {
        Some(auto_leave) => changer.enter_joint(auto_leave, &change.changes),
        None => changer.simple(&change.changes),
    };
    result.map(|_| ()).map_err(|e| e.to_string())
}

/// `m.entries` follow `m.index` without gap, in terms that never fall and don't pass the sender's.
fn check_entries(m: &Message) -> Result<(), &'static str> {
    let mut term = m.log_term;
    if m.log_term > m.term || (m.index == 0) != (m.log_term == 0) {
        return Err("impossible predecessor");
    }
    for (i, entry) in m.entries.iter().enumerate() {
        if entry.index != m.index + 1 + i as u64 || entry.term < term.max(1) || entry.term > m.term {
            return Err("entries that don't follow each other");
        }
        term = entry.term;
    }
    Ok(())
}

fn check_snapshot(m: &Message) -> Result<(), &'static str> {
    let meta = m.get_snapshot().get_metadata();
    if meta.index == 0 || meta.index >= LIMIT || meta.term == 0 || meta.term > m.term {
        return Err("a snapshot of nothing");
    }
    check_conf(meta.get_conf_state(), false).map_err(|_| "a snapshot with an impossible membership")
}

/// raft-rs panics on a membership that contradicts itself.
pub fn check_conf(conf: &ConfState, may_be_empty: bool) -> Result<(), String> {
    let lists = [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next];
    if may_be_empty && lists.iter().all(|list| list.is_empty()) && !conf.auto_leave {
        return Ok(());
    }
    let unique = |ids: &[u64]| ids.iter().enumerate().all(|(i, id)| *id != 0 && !ids[..i].contains(id));
    let voter = |id: &u64| conf.voters.contains(id) || conf.voters_outgoing.contains(id);
    let joint = !conf.voters_outgoing.is_empty();
    let consistent = !conf.voters.is_empty()
        && lists.iter().all(|list| unique(list))
        && !conf.learners.iter().any(voter)
        && conf.learners_next.iter().all(|id| conf.voters_outgoing.contains(id) && !conf.voters.contains(id))
        && (joint || conf.learners_next.is_empty() && !conf.auto_leave);
    consistent.then_some(()).ok_or_else(|| format!("impossible membership {conf:?}"))
}
