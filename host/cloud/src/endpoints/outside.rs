//! Where credentials come from that are not the endpoint's own: what clouds give the machines that run in them.

use crate::aws::Aws;
use crate::exchange::TIMES;
use crate::http::{CleartextPolicy, Http};
use crate::options::{CloudOptions, Variables};

/// Asked by all endpoints.
pub(super) struct Outside {
    /// Environment variables.
    pub variables: Variables,
    /// For identities of Azure's.
    pub http: Http,
    /// Keys and the region, as Amazon's own tools find them.
    pub aws: Aws,
    /// For these.
    pub for_aws: Http,
}

impl Outside {
    /// Nobody is asked before there is a request.
    pub(super) fn new(options: CloudOptions) -> Self {
        Self {
            variables: options.variables.clone(),
            http: Http::new(flannel_base::ca_bundle::file(), CleartextPolicy::LinkLocal, TIMES),
            for_aws: Http::new(options.authorities.clone(), CleartextPolicy::Anywhere, TIMES),
            aws: Aws::new(options),
        }
    }

    /// Sessions that were refused are not used again.
    pub(super) fn forget(&self) {
        crate::vendor::Vendor::forget_credentials(&self.aws);
    }
}
