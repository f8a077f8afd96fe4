//! Traffic of child SAs, read from the counter segments that the data plane writes.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use sadb::{SaCounter, SlotReader, Spi};

use crate::session::Usage;

/// Where the traffic of an SA can be read.
pub trait Meter: Send {
    /// The traffic of the SA with this inbound SPI so far; none when it cannot be known any more.
    fn read(&self, spi: u32) -> Option<Usage>;
}

/// The counter segments of all slots.
#[derive(Default)]
pub struct Segments(HashMap<u8, SlotReader>);

impl Segments {
    /// Maps segments. Those that cannot be mapped are left out, with a line in the log.
    pub fn map(descriptors: Vec<(sadb::Slot, OwnedFd)>) -> Self {
        let mut segments = HashMap::new();
        for (slot, descriptor) in descriptors {
            match SlotReader::map(descriptor) {
                Ok(reader) => drop(segments.insert(slot.number(), reader)),
                Err(error) => tracing::error!("traffic of slot {slot} cannot be read: {error}"),
            }
        }
        Self(segments)
    }
}

impl Meter for Segments {
    fn read(&self, spi: u32) -> Option<Usage> {
        let spi = Spi::from_u32(spi)?;
        let counters = self.0.get(&spi.slot().number())?.counters(spi)?;
        Some(Usage {
            bytes_in: counters.get(SaCounter::BytesIn),
            bytes_out: counters.get(SaCounter::BytesOut),
            packets_in: counters.get(SaCounter::PacketsIn),
            packets_out: counters.get(SaCounter::PacketsOut),
        })
    }
}
