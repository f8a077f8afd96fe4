//! What a virtual network interface leaves undone on a packet, and what we may leave undone for it.

/// What is still to be done on a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// It is a super-packet that has to be cut.
    pub segmentation: Option<Segmentation>,
    /// Its checksum has to be finished: the folded sum of the pseudo-header stands in its place. Always so for a super-packet.
    pub checksum: Option<PartialChecksum>,
}

/// How a super-packet is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// TCP or UDP.
    pub kind: SegmentKind,
    /// Payload bytes of each segment, the last may have less.
    pub size: u16,
}

/// What the segments of a super-packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP segments (TSO).
    Tcp,
    /// UDP datagrams (USO).
    Udp,
}

/// Where a checksum is to be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where the data it covers begins, from the start of the packet; it covers all from there on.
    pub start: u16,
    /// Where it is put, from `start`.
    pub offset: u16,
}
