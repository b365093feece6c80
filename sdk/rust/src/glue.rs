//! Between the contract's `policy` interface and the [`Policy`] trait.

use std::marker::PhantomData;
use std::time::Duration;

use crate::bindings::exports::flannel::backend::policy as wit;
use crate::retirement_bindings::exports::flannel::backend::retirement;
use crate::{Config, PeerId, Policy, Retire, convert};

/// Where the one instance of a policy lives; implemented by [`crate::export!`].
pub trait Instance: Policy {
    /// Lends the instance, which is there once `register` has succeeded.
    fn with<T>(run: impl FnOnce(&mut Option<Self>) -> T) -> T;
}

/// What is declared by [`crate::cloud_permissions!`].
pub trait CloudPermissions {
    /// All of it.
    const REQUIRED: &'static [crate::cloud::RequiredOperation];
}

/// The part of the component that declares.
pub struct PermissionsGuest<D>(PhantomData<D>);

impl<D: CloudPermissions> crate::permissions_bindings::exports::flannel::backend::cloud_permissions::Guest
    for PermissionsGuest<D>
{
    fn required()
    -> Vec<crate::permissions_bindings::exports::flannel::backend::cloud_permissions::RequiredOperation> {
        use crate::permissions_bindings::exports::flannel::backend::cloud_permissions::RequiredOperation;
        let required = D::REQUIRED.iter().map(|need| RequiredOperation {
            provider: need.provider.name().to_owned(),
            service: need.service.to_owned(),
            operation: need.operation.to_owned(),
            permissions: need.permissions.iter().map(|&name| name.to_owned()).collect(),
        });
        required.collect()
    }
}

/// The component of a policy.
pub struct Guest<P>(PhantomData<P>);

const NOT_REGISTERED: &str = "called before a successful register";

fn lent<P: Instance, T>(run: impl FnOnce(&mut P) -> Result<T, String>) -> Result<T, String> {
    P::with(|policy| run(policy.as_mut().ok_or(NOT_REGISTERED)?))
}

impl<P: Instance> wit::Guest for Guest<P> {
    fn describe() -> wit::Description {
        wit::Description {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            backend_types: P::BACKEND_TYPES.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn register(node: wit::Node, config: String) -> Result<wit::Registration, String> {
        #[cfg(target_family = "wasm")]
        crate::log::report_panics();
        let (policy, registration) = P::register(&convert::node(&node), &Config::parse(&config)?)?;
        P::with(|place| *place = Some(policy));
        Ok(wit::Registration {
            backend_type: registration.backend_type,
            backend_data: registration.backend_data,
            backend_v6_data: registration.backend_v6_data,
            mtu: registration.mtu,
        })
    }

    fn lease_acquired(node_lease: wit::Lease) -> Result<(), String> {
        lent::<P, _>(|policy| policy.lease_acquired(&convert::lease(node_lease)))
    }

    fn apply(changes: Vec<wit::Change>) -> Result<Vec<wit::Rejection>, String> {
        lent::<P, _>(|policy| {
            let mut rejections = Vec::new();
            for change in changes {
                match change {
                    wit::Change::Put((peer, lease)) => {
                        if let Err(reason) = policy.put(PeerId(peer), &convert::lease(lease)) {
                            rejections.push(wit::Rejection { peer, reason });
                        }
                    }
                    wit::Change::Removed(peer) => policy.removed(PeerId(peer)),
                }
            }
            policy.applied()?;
            Ok(rejections)
        })
    }

    fn tick() -> Result<Option<u64>, String> {
        lent::<P, _>(|policy| Ok(policy.tick()?.map(milliseconds)))
    }
}

fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

/// The part of the component that is there for its end.
pub struct RetirementGuest<P>(PhantomData<P>);

impl<P: Instance + Retire> retirement::Guest for RetirementGuest<P> {
    fn retire() -> Result<Option<u64>, String> {
        lent::<P, _>(|policy| Ok(policy.retire()?.map(milliseconds)))
    }
}
