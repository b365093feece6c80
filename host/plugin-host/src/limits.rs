//! How much of everything a plugin may use. What is over a limit fails the call, and with it the call's transaction.

use std::time::Duration;

/// The limits of one plugin.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of linear memory, over all memories.
    pub memory: usize,
    /// Elements of a table.
    pub table_elements: usize,
    /// Time for a call, whatever it is about.
    pub call_time: Duration,
    /// Time on top of that for each lease change in the call.
    pub change_time: Duration,
    /// Lease changes in a call.
    pub batch: usize,
    /// Entries of one peer.
    pub peer_entries: usize,
    /// Entries in all.
    pub entries: usize,
    /// Devices.
    pub devices: usize,
    /// Addresses of a device.
    pub addresses: usize,
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            table_elements: 100_000,
            call_time: Duration::from_secs(1),
            change_time: Duration::from_millis(1),
            batch: 4096,
            peer_entries: 64,
            entries: 1 << 20,
            devices: 8,
            addresses: 16,
            handles: 1024,
            log_lines: 100,
            text: 4096,
            backend_data: 64 << 10,
            restarts: 32,
        }
    }
}
