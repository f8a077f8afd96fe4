//! The node itself: processes, configuration, statistics files.

use super::events;

events! {
    /// The node has started.
    SystemStartup<'a> = sit 1001 Info {
        /// What this node is.
        description: &'a str,
        /// Software version.
        version: &'a str,
    } says "system started, {description}, version {version}"
      trap 1028 SystemStartup [
          starChassisType = 0, starChassisDescription = description, starChassisSWRevision = version
      ];

    /// A manager died.
    ManagerFailure<'a> = sit 1002 Critical {
        /// Facility name.
        facility: &'a str,
        /// Facility number, the first index of the task table.
        facility_number: u32,
        /// Instance.
        instance: u32,
        /// Process id it had.
        pid: u32,
        /// How it ended: signal or exit status, in words.
        cause: &'a str,
    } says "{facility} {instance} (pid {pid}) failed: {cause}"
      trap 73 ManagerFailure [
          starTaskFacilityName = facility, starTaskInstance = instance, starTaskCard = 1, starTaskCPU = 0
      ]
      raises Major for (facility, instance);

    /// A manager that died is back.
    ManagerRestart<'a> = sit 1003 Info {
        /// Facility name.
        facility: &'a str,
        /// Facility number, the first index of the task table.
        facility_number: u32,
        /// Instance.
        instance: u32,
        /// Its new process id.
        pid: u32,
    } says "{facility} {instance} restarted (pid {pid})"
      trap 1099 ManagerRestart [
          starTaskFacilityName = facility, starTaskInstance = instance, starTaskCard = 1, starTaskCPU = 0
      ]
      clears ManagerFailure for (facility, instance);

    /// A task that is not a manager died.
    TaskFailed<'a> = sit 1004 Error {
        /// Facility name.
        facility: &'a str,
        /// Facility number, the first index of the task table.
        facility_number: u32,
        /// Instance.
        instance: u32,
        /// Process id it had.
        pid: u32,
        /// How it ended: signal or exit status, in words.
        cause: &'a str,
    } says "{facility} {instance} (pid {pid}) failed: {cause}"
      trap 150 TaskFailed [
          starTaskFacilityName = facility, starTaskInstance = instance, starTaskCard = 1, starTaskCPU = 0
      ]
      raises Minor for (facility, instance);

    /// A task that is not a manager is back.
    TaskRestart<'a> = sit 1005 Info {
        /// Facility name.
        facility: &'a str,
        /// Facility number, the first index of the task table.
        facility_number: u32,
        /// Instance.
        instance: u32,
        /// Its new process id.
        pid: u32,
    } says "{facility} {instance} restarted (pid {pid})"
      trap 151 TaskRestart [
          starTaskFacilityName = facility, starTaskInstance = instance, starTaskCard = 1, starTaskCPU = 0
      ]
      clears TaskFailed for (facility, instance);

    /// A protection of the processes is missing, for want of privilege or of kernel support.
    ProtectionMissing<'a> = sit 1006 Warning {
        /// Which protection, and what would bring it.
        protection: &'a str,
    } says "running without a protection: {protection}";

    /// Another executable is taking over the running node.
    SoftwareUpgradeStarted<'a> = sit 1007 Info {
        /// Its version.
        version: &'a str,
        /// Its file.
        executable: &'a str,
    } says "upgrade to version {version} ({executable}) begins";

    /// Every process runs the new executable.
    SoftwareUpgradeCompleted<'a> = sit 1008 Info {
        /// Its version.
        version: &'a str,
        /// Its file.
        executable: &'a str,
        /// How many processes there are.
        tasks: u32,
    } says "upgrade to version {version} ({executable}) is complete, {tasks} tasks";

    /// An upgrade was refused, or stopped on its way.
    SoftwareUpgradeFailed<'a> = sit 1009 Error {
        /// Why, and what runs now.
        reason: &'a str,
    } says "upgrade failed: {reason}";

    /// A port is configured for AF_XDP, which cannot be had: its packets go by sockets.
    AfXdpUnavailable<'a> = sit 1010 Warning {
        /// The network device.
        device: &'a str,
        /// What could not be done, and why.
        reason: &'a str,
    } says "device {device} is used without AF_XDP: {reason}";

    /// The configuration was changed.
    ConfigurationUpdate<'a> = sct 2001 Info {
        /// Administrator.
        user: &'a str,
        /// The line, secrets left out.
        line: &'a str,
    } says "configuration changed by {user}: {line}"
      trap 1100 ConfigurationUpdate [];

    /// A line of a configuration file was refused; the others were applied.
    ConfigurationLineRefused<'a> = sct 2002 Error {
        /// File name.
        file: &'a str,
        /// Line number, from 1.
        line: u32,
        /// What is wrong and what would be right.
        reason: &'a str,
    } says "{file} line {line}: {reason}";

    /// The running configuration was saved.
    ConfigurationSaved<'a> = sct 2003 Info {
        /// Administrator.
        user: &'a str,
        /// File written.
        file: &'a str,
    } says "configuration saved to {file} by {user}";

    /// A sealed secret of the configuration cannot be opened with this node's master key.
    SecretUnreadable<'a> = sct 2004 Error {
        /// Where it stands in the configuration.
        place: &'a str,
    } says "secret of {place} cannot be opened: it was sealed with another master key, enter it again";

    /// A bulk statistics file cannot be written or transferred.
    BulkstatFileFailed<'a> = bulkstat 10001 Error {
        /// The file.
        file: &'a str,
        /// Why.
        reason: &'a str,
    } says "bulk statistics file {file}: {reason}";

    /// Bulk statistics waiting for transfer have reached 80 % of the limit.
    StatFilesizeExceeded = bulkstat 10002 Warning {
        /// The limit, kilobytes.
        limit: u32,
        /// What is waiting, kilobytes.
        measured: u32,
    } says "bulk statistics waiting for transfer: {measured} KB of {limit} KB"
      trap 1312 StatFilesizeExceeded [starStatFilesizeLimit = limit, starStatFilesizeMeasured = measured]
      raises Minor for ();

    /// Bulk statistics waiting for transfer are below the limit again.
    StatFilesizeClear = bulkstat 10003 Info {
        /// The limit, kilobytes.
        limit: u32,
        /// What is waiting, kilobytes.
        measured: u32,
    } says "bulk statistics waiting for transfer back to {measured} KB of {limit} KB"
      trap 1313 StatFilesizeClear [starStatFilesizeLimit = limit, starStatFilesizeMeasured = measured]
      clears StatFilesizeExceeded for ();
}
