//! How much of everything a plugin may use. What is over a limit fails the call, and with it the call's transaction.

use std::time::Duration;

/// The limits of one plugin.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes that the process pays for an instance: its memories and tables, and the host's records of it.
    pub memory: usize,
    /// Instances of modules.
    pub instances: usize,
    /// Linear memories.
    pub memories: usize,
    /// Tables.
    pub tables: usize,
    /// Elements of all tables.
    pub table_elements: usize,
    /// Bytes that one call of the host may hand over, and one answer to it; the host copies them.
    pub handed_over: usize,
    /// Time for a call, whatever it is about.
    pub call_time: Duration,
    /// Time on top of that for each lease change in the call.
    pub change_time: Duration,
    /// Lease changes in a call.
    pub batch: usize,
    /// Peers that a call may ask to be handed over again.
    pub refreshes: usize,
    /// Targets that are probed.
    pub probes: usize,
    /// Entries of one peer.
    pub peer_entries: usize,
    /// Entries in all.
    pub entries: usize,
    /// Devices.
    pub devices: usize,
    /// Addresses of a device.
    pub addresses: usize,
    /// Rules.
    pub rules: usize,
    /// Handles of links at the same time.
    pub handles: usize,
    /// Log lines in a call.
    pub log_lines: u32,
    /// Bytes of a log line, and of any text that comes out of the plugin for an operator.
    pub text: usize,
    /// Bytes of the data published in a lease.
    pub backend_data: usize,
    /// Fresh instances that one batch of changes may cost before the rest of it has to wait.
    pub restarts: u32,
    /// Processor time that one batch of changes may take before the rest of it has to wait, if fresh instances are needed for it.
    pub restart_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // JavaScript's runtime collects garbage for the first time when it has 77 MiB.
            memory: 128 << 20,
            // As for what can be seen of a component before (`outline`).
            instances: 256,
            memories: 16,
            tables: 64,
            table_elements: 200_000,
            handed_over: 4 << 20,
            call_time: Duration::from_secs(1),
            change_time: Duration::from_millis(1),
            batch: 4096,
            refreshes: 1 << 16,
            probes: 1 << 15,
            peer_entries: 64,
            entries: 1 << 20,
            devices: 8,
            addresses: 16,
            rules: 64,
            handles: 1024,
            log_lines: 100,
            text: 4096,
            backend_data: 64 << 10,
            restarts: 32,
            restart_time: Duration::from_secs(5),
        }
    }
}
