//! Messages on their way out: fewer and larger appends.
use raft::eraftpb::{Message, MessageType};

fn bytes_of(m: &Message) -> u64 {
    m.entries.iter().map(|e| e.data.len() as u64 + 32).sum()
}

/// The newest append to each peer, as a place in the list.
struct Newest {
    to: u64,
    at: usize,
    bytes: u64,
}

/// Joins appends to one peer that continue each other, up to `max_bytes`, and drops an empty one that a later append
/// makes needless (the receiver sees it as lost; the later one brings the same news). Several proposals, or a proposal
/// behind a commit, so leave in one message for each peer.
pub fn coalesce(messages: Vec<Message>, max_bytes: u64) -> Vec<Message> {
    if messages.len() < 2 {
        return messages;
    }
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut newest: Vec<Newest> = Vec::new();
    for mut message in messages {
        if message.get_msg_type() != MessageType::MsgAppend {
            out.push(message);
            continue;
        }
        let bytes = bytes_of(&message);
        let Some(slot) = newest.iter_mut().find(|n| n.to == message.to) else {
            newest.push(Newest { to: message.to, at: out.len(), bytes });
            out.push(message);
            continue;
        };
        let before = &mut out[slot.at];
        let continues =
            before.term == message.term && before.entries.last().map_or(false, |e| e.index == message.index);
        if before.entries.is_empty() {
            *before = message;
            slot.bytes = bytes;
        } else if continues && slot.bytes + bytes <= max_bytes {
            before.commit = before.commit.max(message.commit);
            before.mut_entries().extend(message.take_entries());
            slot.bytes += bytes;
        } else {
            slot.at = out.len();
            slot.bytes = bytes;
            out.push(message);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::eraftpb::Entry;

    fn append(to: u64, index: u64, count: u64, commit: u64) -> Message {
        let mut m = Message::default();
        m.set_msg_type(MessageType::MsgAppend);
        m.to = to;
        m.term = 3;
        m.index = index;
        m.commit = commit;
        for i in 1..=count {
            let mut entry = Entry::default();
            entry.index = index + i;
            entry.data = vec![0u8; 68].into();
            m.mut_entries().push(entry);
        }
        m
    }

    fn shape(messages: &[Message]) -> Vec<(u64, u64, usize, u64)> {
        messages.iter().map(|m| (m.to, m.index, m.entries.len(), m.commit)).collect()
    }

    #[test]
    fn joins_what_continues_and_keeps_peers_apart() {
        let out = coalesce(vec![append(2, 5, 1, 4), append(3, 5, 1, 4), append(2, 6, 2, 5)], 10_000);
        assert_eq!(shape(&out), [(2, 5, 3, 5), (3, 5, 1, 4)]);
    }

    #[test]
    fn respects_the_size_limit() {
        let out = coalesce(vec![append(2, 5, 1, 4), append(2, 6, 1, 4), append(2, 7, 1, 4)], 200);
        assert_eq!(shape(&out), [(2, 5, 2, 4), (2, 7, 1, 4)]);
    }

    #[test]
    fn drops_an_empty_append_before_another() {
        let out = coalesce(vec![append(2, 5, 0, 5), append(2, 3, 2, 5)], 10_000);
        assert_eq!(shape(&out), [(2, 3, 2, 5)]);
    }

    #[test]
    fn takes_the_commit_of_an_empty_append_behind_entries() {
        let out = coalesce(vec![append(2, 5, 1, 5), append(2, 6, 0, 6)], 10_000);
        assert_eq!(shape(&out), [(2, 5, 1, 6)]);
    }

    #[test]
    fn keeps_entries_that_do_not_follow() {
        let out = coalesce(vec![append(2, 5, 2, 5), append(2, 5, 1, 5)], 10_000);
        assert_eq!(shape(&out), [(2, 5, 2, 5), (2, 5, 1, 5)]);
    }
}
