//! Real strongSwan as peer.

mod af_xdp;
mod algorithms;
mod certificates;
mod common;
mod liveness;
mod net_to_net;
mod own_traffic;
mod per_resource;
mod recovery;
mod refusals;
mod rekeying;
mod remote_access;
mod responder;
mod scale;
mod slots;
mod tools;
mod upgrade;
