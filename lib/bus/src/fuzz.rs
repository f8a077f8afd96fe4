//! Entry points for fuzzing; the property tests use them too.

use crate::frame::{self, Beacon, Refusal};
use crate::messages::common::Replayed;

/// Decodes a frame from anybody: its header, then its message as whatever type the header names.
pub fn frame(octets: &[u8]) {
    let Ok((header, payload)) = frame::decode(octets) else {
        return;
    };
    let _ = <Refusal as prost::Message>::decode(payload);
    let _ = <Beacon as prost::Message>::decode(payload);
    let _ = <Replayed as prost::Message>::decode(payload);
    message(header.message, payload);
}

macro_rules! known {
    ($($module:ident: $($name:ident)*;)*) => {
        fn message(kind: u16, payload: &[u8]) {
            $($(if kind == <crate::messages::$module::$name as crate::Message>::TYPE {
                let _ = <crate::messages::$module::$name as prost::Message>::decode(payload);
            })*)*
        }
    };
}

known! {
    common: Ping Execute Replay Notice;
    sit: OpenIke OpenEsp OpenTun OpenSlots OpenRings OpenUdp Close SetSlotMap GetKeptSlotMap EndLife Ready Welcome LinkOpened Shutdown TaskStarted;
    sct: GetConfig Configure SaveConfig OpenSession CloseSession RevealSecret ConfigChanged;
    rmctrl: GetSlotMap SlotMapChanged;
    slots: PrepareSlots HandOverSlots TakeSlots GetSlotLoads;
    vpnmgr: LeaseBlock ReturnBlock LeaseAddress AddRoutes RemoveRoutes GetAddresses;
    ipsecmgr: DeleteTunnels Drain;
    sessmgr: Admit Connected Release WorkerRecovered HeldBlocks SessionAdmitted;
    aaamgr: Account EapRound;
    certmgr: GetCertificate GetTrust Prove;
}
