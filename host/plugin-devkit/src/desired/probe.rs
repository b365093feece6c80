//! What a plugin has probed, shown.

use flannel_plugin_host::ProbeTarget;
use serde::Serialize;

/// A target.
#[derive(Debug, Serialize)]
pub struct ShownProbe {
    /// The address that is asked.
    pub address: String,
    /// The device by which requests leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Bytes of a request.
    pub size: u16,
    /// Milliseconds between two requests.
    pub interval_ms: u64,
    /// So many requests in a row without an answer make it lost.
    pub lost_after: u8,
    /// So many answers in a row bring it back.
    pub back_after: u8,
}

impl ShownProbe {
    /// All of them, by their addresses.
    pub(super) fn all(targets: &[ProbeTarget]) -> Vec<Self> {
        let mut targets: Vec<&ProbeTarget> = targets.iter().collect();
        targets.sort_by_key(|target| (target.key.address, target.key.over.clone(), target.key.size));
        let shown = |target: &ProbeTarget| Self {
            address: target.key.address.to_string(),
            device: target.key.over.as_deref().map(str::to_owned),
            size: target.key.size,
            interval_ms: u64::try_from(target.interval.as_millis()).unwrap_or(u64::MAX),
            lost_after: target.lost_after,
            back_after: target.back_after,
        };
        targets.into_iter().map(shown).collect()
    }

    pub(super) fn row(&self) -> Vec<String> {
        let device = self.device.as_deref().unwrap_or("-").to_owned();
        vec![
            self.address.clone(),
            device,
            self.size.to_string(),
            format!("{} ms", self.interval_ms),
            self.lost_after.to_string(),
            self.back_after.to_string(),
        ]
    }
}
