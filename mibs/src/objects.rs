//! The table of objects.

use crate::oid::Oid;

/// An object of the MIB.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    /// Its name.
    pub name: &'static str,
    /// Where its number is counted from.
    root: &'static [u32],
    /// Arcs below the root.
    arcs: &'static [u32],
    /// Its type.
    pub syntax: Syntax,
    /// What identifies an instance.
    pub index: Index,
}

impl Object {
    /// The object with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        OBJECTS.iter().find(|object| object.name == name)
    }

    /// Its identifier, without an instance.
    pub fn oid(&self) -> Oid {
        Oid::new(self.root).child(self.arcs)
    }
}

/// Types, as far as the objects need them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// Integer32 or an enumeration.
    Integer,
    /// DisplayString or another OCTET STRING.
    Text,
    /// DateAndTime.
    DateAndTime,
    /// OBJECT IDENTIFIER.
    Oid,
    /// IpAddress.
    Address,
    /// InetAddress.
    InetAddress,
    /// Counter32.
    Counter32,
    /// Counter64.
    Counter64,
    /// Gauge32 or Unsigned32.
    Gauge32,
    /// TimeTicks.
    TimeTicks,
}

/// What identifies an instance of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// A scalar: `.0`.
    Scalar,
    /// Task table: facility number and instance.
    Task,
    /// Service table: context and service number.
    Service,
    /// CPU table: card and processor, of which the node has one each.
    Cpu,
    /// CLI table: number of the session.
    Cli,
    /// Certificate table: the serial number, its length implied.
    Certificate,
    /// RADIUS server tables: number of the server.
    RadiusServer,
}

/// Every object, in the order of the MIB.
pub const OBJECTS: &[Object] = &[
    // SNMPv2-MIB, system group.
    object("sysDescr", MIB_2, &[1, 1], Syntax::Text, Index::Scalar),
    object("sysObjectID", MIB_2, &[1, 2], Syntax::Oid, Index::Scalar),
    object("sysUpTime", MIB_2, &[1, 3], Syntax::TimeTicks, Index::Scalar),
    object("sysContact", MIB_2, &[1, 4], Syntax::Text, Index::Scalar),
    object("sysName", MIB_2, &[1, 5], Syntax::Text, Index::Scalar),
    object("sysLocation", MIB_2, &[1, 6], Syntax::Text, Index::Scalar),
    object("sysServices", MIB_2, &[1, 7], Syntax::Integer, Index::Scalar),
    // SNMPv2-MIB, snmp group.
    object("snmpInPkts", MIB_2, &[11, 1], Syntax::Counter32, Index::Scalar),
    object(
        "snmpInBadVersions",
        MIB_2,
        &[11, 3],
        Syntax::Counter32,
        Index::Scalar,
    ),
    object(
        "snmpInBadCommunityNames",
        MIB_2,
        &[11, 4],
        Syntax::Counter32,
        Index::Scalar,
    ),
    object(
        "snmpInBadCommunityUses",
        MIB_2,
        &[11, 5],
        Syntax::Counter32,
        Index::Scalar,
    ),
    object(
        "snmpInASNParseErrs",
        MIB_2,
        &[11, 6],
        Syntax::Counter32,
        Index::Scalar,
    ),
    object(
        "snmpSilentDrops",
        MIB_2,
        &[11, 31],
        Syntax::Counter32,
        Index::Scalar,
    ),
    // RADIUS-AUTH-CLIENT-MIB and RADIUS-ACC-CLIENT-MIB: variables of notifications.
    object(
        "radiusAuthServerIndex",
        MIB_2,
        &[67, 1, 2, 1, 1, 3, 1, 1],
        Syntax::Integer,
        Index::RadiusServer,
    ),
    object(
        "radiusAuthServerAddress",
        MIB_2,
        &[67, 1, 2, 1, 1, 3, 1, 2],
        Syntax::Address,
        Index::RadiusServer,
    ),
    object(
        "radiusAccServerIndex",
        MIB_2,
        &[67, 2, 2, 1, 1, 3, 1, 1],
        Syntax::Integer,
        Index::RadiusServer,
    ),
    object(
        "radiusAccServerAddress",
        MIB_2,
        &[67, 2, 2, 1, 1, 3, 1, 2],
        Syntax::Address,
        Index::RadiusServer,
    ),
    // STARENT-MIB: chassis.
    object(
        "starChassisUTCTime",
        STARENT,
        &[1, 8],
        Syntax::DateAndTime,
        Index::Scalar,
    ),
    object(
        "starChassisLocalTime",
        STARENT,
        &[1, 9],
        Syntax::DateAndTime,
        Index::Scalar,
    ),
    object(
        "starChassisType",
        STARENT,
        &[1, 10],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starChassisDescription",
        STARENT,
        &[1, 11],
        Syntax::Text,
        Index::Scalar,
    ),
    object(
        "starChassisSWRevision",
        STARENT,
        &[1, 12],
        Syntax::Text,
        Index::Scalar,
    ),
    // Processors.
    object(
        "starCPUSlot",
        STARENT,
        &[10, 1, 1, 1],
        Syntax::Integer,
        Index::Cpu,
    ),
    object(
        "starCPUNumber",
        STARENT,
        &[10, 1, 1, 2],
        Syntax::Integer,
        Index::Cpu,
    ),
    object(
        "starCPUCoreNumber",
        STARENT,
        &[10, 1, 1, 18],
        Syntax::Integer,
        Index::Cpu,
    ),
    // Sessions in progress.
    object(
        "starSessInProgCalls",
        STARENT,
        &[12, 1],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starSessInProgActiveCalls",
        STARENT,
        &[12, 2],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starSessInProgArrived",
        STARENT,
        &[12, 4],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starSessInProgSIPConn",
        STARENT,
        &[12, 10],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starSessInProgDisc",
        STARENT,
        &[12, 12],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    // Session managers.
    object(
        "starSessMgrCount",
        STARENT,
        &[13, 1],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starSessTtlArrived",
        STARENT,
        &[13, 2],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starSessTtlRejected",
        STARENT,
        &[13, 3],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starSessTtlConnected",
        STARENT,
        &[13, 4],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starSessTtlTxBytes",
        STARENT,
        &[13, 15],
        Syntax::Counter32,
        Index::Scalar,
    ),
    object(
        "starSessTtlRxBytes",
        STARENT,
        &[13, 16],
        Syntax::Counter32,
        Index::Scalar,
    ),
    object(
        "starSessTtlTxBytesRev1",
        STARENT,
        &[13, 23],
        Syntax::Counter64,
        Index::Scalar,
    ),
    object(
        "starSessTtlRxBytesRev1",
        STARENT,
        &[13, 24],
        Syntax::Counter64,
        Index::Scalar,
    ),
    // AAA managers.
    object(
        "starAAAMgrCount",
        STARENT,
        &[14, 1],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starAAATtlRequests",
        STARENT,
        &[14, 2],
        Syntax::Counter32,
        Index::Scalar,
    ),
    object(
        "starAAATtlAuthRequests",
        STARENT,
        &[14, 3],
        Syntax::Counter32,
        Index::Scalar,
    ),
    object(
        "starAAATtlAcctRequests",
        STARENT,
        &[14, 4],
        Syntax::Counter32,
        Index::Scalar,
    ),
    object(
        "starAAACurRequests",
        STARENT,
        &[14, 5],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starAAACurAuthRequests",
        STARENT,
        &[14, 6],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starAAACurAcctRequests",
        STARENT,
        &[14, 7],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starAAATtlAuthSuccess",
        STARENT,
        &[14, 10],
        Syntax::Counter32,
        Index::Scalar,
    ),
    object(
        "starAAATtlAuthFailure",
        STARENT,
        &[14, 11],
        Syntax::Counter32,
        Index::Scalar,
    ),
    // Services.
    object(
        "starServiceVpnName",
        STARENT,
        &[18, 1, 1, 3],
        Syntax::Text,
        Index::Service,
    ),
    object(
        "starServiceServName",
        STARENT,
        &[18, 1, 1, 4],
        Syntax::Text,
        Index::Service,
    ),
    object(
        "starServiceSubLimit",
        STARENT,
        &[18, 1, 1, 5],
        Syntax::Gauge32,
        Index::Service,
    ),
    object(
        "starServiceSubCurrent",
        STARENT,
        &[18, 1, 1, 6],
        Syntax::Gauge32,
        Index::Service,
    ),
    object(
        "starServiceType",
        STARENT,
        &[18, 1, 1, 7],
        Syntax::Integer,
        Index::Service,
    ),
    // CLI sessions: variables of notifications.
    object(
        "starCLIUsername",
        STARENT,
        &[19, 1, 1, 2],
        Syntax::Text,
        Index::Cli,
    ),
    object(
        "starCLITtyname",
        STARENT,
        &[19, 1, 1, 3],
        Syntax::Text,
        Index::Cli,
    ),
    object("starCLIPrivs", STARENT, &[19, 1, 1, 4], Syntax::Text, Index::Cli),
    object(
        "starCLIType",
        STARENT,
        &[19, 1, 1, 5],
        Syntax::Integer,
        Index::Cli,
    ),
    object(
        "starCLIRemoteIpAddrType",
        STARENT,
        &[19, 1, 1, 6],
        Syntax::Integer,
        Index::Cli,
    ),
    object(
        "starCLIRemoteIpAddr",
        STARENT,
        &[19, 1, 1, 7],
        Syntax::InetAddress,
        Index::Cli,
    ),
    // Tasks.
    object(
        "starTaskInstance",
        STARENT,
        &[20, 1, 1, 2],
        Syntax::Gauge32,
        Index::Task,
    ),
    object(
        "starTaskFacilityName",
        STARENT,
        &[20, 1, 1, 3],
        Syntax::Text,
        Index::Task,
    ),
    object(
        "starTaskCard",
        STARENT,
        &[20, 1, 1, 4],
        Syntax::Gauge32,
        Index::Task,
    ),
    object(
        "starTaskCPU",
        STARENT,
        &[20, 1, 1, 5],
        Syntax::Gauge32,
        Index::Task,
    ),
    // Variables of notifications.
    object(
        "starThreshMeasuredPct",
        STARENT,
        &[28, 1],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object("starThreshPct", STARENT, &[28, 2], Syntax::Integer, Index::Scalar),
    object(
        "starCongestionPolicy",
        STARENT,
        &[31, 1],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starCongestionResourceType",
        STARENT,
        &[31, 2],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starFecthedFromAAAMgr",
        STARENT,
        &[31, 17],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starPriorToAudit",
        STARENT,
        &[31, 18],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starPassedAudits",
        STARENT,
        &[31, 19],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starCallsRecovered",
        STARENT,
        &[31, 20],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starAllCallLines",
        STARENT,
        &[31, 21],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starElapsedMs",
        STARENT,
        &[31, 22],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starStatFilesizeLimit",
        STARENT,
        &[31, 162],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starStatFilesizeMeasured",
        STARENT,
        &[31, 163],
        Syntax::Gauge32,
        Index::Scalar,
    ),
    object(
        "starIPSECContextName",
        STARENT,
        &[36, 1],
        Syntax::Text,
        Index::Scalar,
    ),
    object(
        "starIPSECTunLocalIpAddr",
        STARENT,
        &[36, 3],
        Syntax::Text,
        Index::Scalar,
    ),
    object(
        "starIPSECTunRemoteIpAddr",
        STARENT,
        &[36, 4],
        Syntax::Text,
        Index::Scalar,
    ),
    object(
        "starIPSECPolicyName",
        STARENT,
        &[36, 5],
        Syntax::Text,
        Index::Scalar,
    ),
    object(
        "starIPSECDynPolicyType",
        STARENT,
        &[36, 6],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starIPSECDynPolicyPayloadType",
        STARENT,
        &[36, 7],
        Syntax::Integer,
        Index::Scalar,
    ),
    object(
        "starIPSECLocalGateway",
        STARENT,
        &[36, 8],
        Syntax::Address,
        Index::Scalar,
    ),
    object(
        "starIPSECRemoteGateway",
        STARENT,
        &[36, 9],
        Syntax::Address,
        Index::Scalar,
    ),
    object(
        "starCertSerialNumber",
        STARENT,
        &[50, 1, 1, 1],
        Syntax::Text,
        Index::Certificate,
    ),
    object(
        "starCertExpiryTime",
        STARENT,
        &[50, 1, 1, 2],
        Syntax::DateAndTime,
        Index::Certificate,
    ),
    object(
        "starCertIssuer",
        STARENT,
        &[50, 1, 1, 3],
        Syntax::Text,
        Index::Certificate,
    ),
];

/// `mib-2`.
const MIB_2: &[u32] = &[1, 3, 6, 1, 2, 1];
/// `starentMIBObjects`.
const STARENT: &[u32] = &[1, 3, 6, 1, 4, 1, 8164, 1];
/// `starentTraps`.
pub(crate) const TRAPS: &[u32] = &[1, 3, 6, 1, 4, 1, 8164, 2];

const fn object(
    name: &'static str,
    root: &'static [u32],
    arcs: &'static [u32],
    syntax: Syntax,
    index: Index,
) -> Object {
    Object {
        name,
        root,
        arcs,
        syntax,
        index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::counters::Width;
    use telemetry::{Counter, events};

    #[test]
    fn names_are_unique_and_numbers_ascend() {
        for pair in OBJECTS.windows(2) {
            assert!(
                pair[0].oid() < pair[1].oid(),
                "{} before {}",
                pair[0].name,
                pair[1].name
            );
        }
        for object in OBJECTS {
            assert_eq!(
                OBJECTS.iter().filter(|other| other.name == object.name).count(),
                1,
                "{}",
                object.name
            );
        }
    }

    #[test]
    fn every_object_of_a_counter_is_a_scalar_that_can_hold_it() {
        for counter in Counter::all() {
            let row = counter.descriptor();
            for name in row.objects {
                let object = Object::find(name).expect(name);
                assert_eq!(object.index, Index::Scalar, "{name}");
                let wide = object.syntax == Syntax::Counter64;
                assert!(
                    !wide || row.width == Width::Bits64,
                    "{} cannot feed {name}",
                    row.id
                );
                assert!(
                    wide || matches!(object.syntax, Syntax::Counter32 | Syntax::Gauge32),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn every_variable_of_a_notification_is_an_object() {
        for variable in events::all()
            .filter_map(|row| row.trap)
            .flat_map(|trap| trap.variables)
        {
            assert!(
                Object::find(variable.object).is_some(),
                "{} is no object",
                variable.object
            );
        }
    }
}
