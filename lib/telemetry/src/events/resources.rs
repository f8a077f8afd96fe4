//! What the resource manager watches.

use super::events;

events! {
    /// A processor of the data plane is busy.
    ThreshCPUCryptoCoresUtilization = rmctrl 3001 Warning {
        /// The processor.
        core: u32,
        /// Where the alarm is raised, percent.
        threshold: u32,
        /// Its use, percent.
        measured: u32,
    } says "processor {core} of the data plane is at {measured}%, the threshold is {threshold}%"
      trap 541 ThreshCPUCryptoCoresUtilization [
          starCPUSlot = 1, starCPUNumber = 0, starCPUCoreNumber = core, starThreshPct = threshold, starThreshMeasuredPct = measured
      ]
      raises Minor for (core);

    /// A processor of the data plane is no longer busy, or no longer watched.
    ThreshClearCPUCryptoCoresUtilization = rmctrl 3002 Info {
        /// The processor.
        core: u32,
        /// Below which the alarm is cleared, percent.
        threshold: u32,
        /// Its use, percent.
        measured: u32,
    } says "processor {core} of the data plane is back to {measured}%, the threshold is {threshold}%"
      trap 542 ThreshClearCPUCryptoCoresUtilization [
          starCPUSlot = 1, starCPUNumber = 0, starCPUCoreNumber = core, starThreshPct = threshold, starThreshMeasuredPct = measured
      ]
      clears ThreshCPUCryptoCoresUtilization for (core);

    /// A threshold of congestion control is reached: new peers are treated by the policy, tunnels go on.
    Congestion<'a> = rmctrl 3003 Warning {
        /// The threshold, in words.
        threshold: &'a str,
        /// What was measured, with its limit, in words.
        measured: &'a str,
        /// What new peers get: `drop` or `reject`.
        action: &'a str,
        /// The same as the MIB numbers it.
        policy: u32,
        /// What is scarce, as the MIB numbers it.
        resource: u32,
    } says "congestion: {threshold} is {measured}; policy for new peers: {action}"
      trap 81 Congestion [
          starServiceType = 41, starCongestionPolicy = policy, starCongestionResourceType = resource
      ]
      raises Major for ();

    /// No threshold of congestion control is reached any more: new peers are served again.
    CongestionClear = rmctrl 3004 Info {
    } says "congestion is over, new peers are served"
      trap 82 CongestionClear [starServiceType = 41]
      clears Congestion for ();

    /// Slots begin to go to another worker.
    SlotMoveBegun<'a> = rmctrl 3005 Info {
        /// Their numbers.
        slots: &'a str,
        /// What of them: `manager` or `data-plane`.
        part: &'a str,
        /// The worker that has them.
        from: u32,
        /// The worker that gets them.
        to: u32,
    } says "the {part} of slots {slots} goes from worker {from} to worker {to}";

    /// Slots are another worker's now.
    SlotMoved<'a> = rmctrl 3006 Info {
        /// Their numbers.
        slots: &'a str,
        /// What of them: `manager` or `data-plane`.
        part: &'a str,
        /// The worker that had them.
        from: u32,
        /// The worker that has them.
        to: u32,
    } says "the {part} of slots {slots} has gone from worker {from} to worker {to}";

    /// Slots stay where they were.
    SlotMoveFailed<'a> = rmctrl 3007 Warning {
        /// Their numbers.
        slots: &'a str,
        /// What of them: `manager` or `data-plane`.
        part: &'a str,
        /// The worker that has them.
        from: u32,
        /// The worker that was to get them.
        to: u32,
        /// Why.
        reason: &'a str,
    } says "the {part} of slots {slots} stays at worker {from} and does not go to worker {to}: {reason}";
}
