//! Accounting records on their way to `aaamgr`: kept until it has taken them over, in order.

use std::collections::VecDeque;

use bus::messages::aaamgr::{AccountingKind, AccountingRecord};
use services::DisconnectReason;
use telemetry::events::{self, AccountingLost};

use crate::admission::octets;
use crate::reason::terminate_cause;
use crate::session::Session;

/// Records that `aaamgr` has not taken over yet.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<AccountingRecord>,
    /// So many of the first ones are being sent now.
    under_way: usize,
    lost: u64,
}

impl Outbox {
    /// Adds a record. When too many wait, the oldest one that is not under way is lost.
    pub fn push(&mut self, record: AccountingRecord) {
        if self.waiting.len() >= MAX_WAITING && self.waiting.remove(self.under_way).is_some() {
            self.lost += 1;
        }
        self.waiting.push_back(record);
    }

    /// The next records to send; none while others are under way.
    pub fn next(&mut self) -> Option<Vec<AccountingRecord>> {
        if self.under_way > 0 || self.waiting.is_empty() {
            return None;
        }
        self.under_way = self.waiting.len().min(BATCH);
        Some(self.waiting.iter().take(self.under_way).cloned().collect())
    }

    /// The records under way were taken over, or not: then they are sent again.
    pub fn done(&mut self, taken: bool) {
        if taken {
            self.waiting.drain(..self.under_way);
        }
        self.under_way = 0;
        if self.lost > 0 {
            events::emit(&AccountingLost {
                count: std::mem::take(&mut self.lost),
            });
        }
    }
}

/// A record of a session as it stands now.
pub fn record(
    session: &Session,
    kind: AccountingKind,
    seconds: u32,
    time: u64,
    end: Option<DisconnectReason>,
) -> AccountingRecord {
    let address = |given: &Option<Box<crate::session::Assigned>>| {
        given
            .as_ref()
            .map_or_else(Vec::new, |given| octets(given.address))
    };
    AccountingRecord {
        kind: kind as i32,
        context: session.service.context.to_string(),
        session: session.accounting_id(),
        user: session.user().as_bytes().to_vec(),
        ipv4: address(&session.ipv4),
        ipv6: address(&session.ipv6),
        class: session
            .authorized
            .as_ref()
            .map_or_else(Vec::new, |said| said.class.clone()),
        seconds,
        bytes_in: session.usage.bytes_in,
        bytes_out: session.usage.bytes_out,
        packets_in: session.usage.packets_in,
        packets_out: session.usage.packets_out,
        terminate_cause: end.map_or(0, terminate_cause),
        calling_station: session.peer.to_string(),
        service: session.service.name.to_string(),
        time,
    }
}

/// Records in one request.
const BATCH: usize = 200;
/// Records that may wait while `aaamgr` is away.
const MAX_WAITING: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u64) -> AccountingRecord {
        AccountingRecord {
            time: number,
            ..AccountingRecord::default()
        }
    }

    #[test]
    fn records_leave_in_order_and_once() {
        let mut outbox = Outbox::default();
        (0..BATCH as u64 + 5).for_each(|number| outbox.push(numbered(number)));
        let first = outbox.next().unwrap();
        assert_eq!((first.len(), first[0].time), (BATCH, 0));
        assert_eq!(outbox.next(), None, "one batch at a time");
        outbox.done(false);
        assert_eq!(outbox.next().unwrap(), first, "again");
        outbox.done(true);
        assert_eq!(
            outbox
                .next()
                .unwrap()
                .iter()
                .map(|record| record.time)
                .collect::<Vec<_>>(),
            [200, 201, 202, 203, 204]
        );
        outbox.done(true);
        assert!(outbox.waiting.is_empty());
    }

    #[test]
    fn what_is_under_way_is_not_lost() {
        let mut outbox = Outbox::default();
        outbox.push(numbered(0));
        outbox.next().unwrap();
        (1..=MAX_WAITING as u64).for_each(|number| outbox.push(numbered(number)));
        assert_eq!((outbox.waiting.len(), outbox.lost), (MAX_WAITING, 1));
        outbox.done(true);
        assert_eq!(outbox.next().unwrap()[0].time, 2, "number 1 made room");
    }
}
