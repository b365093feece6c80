//! Blackhole routes for the node's own subnets: packets for an address that no pod has are dropped here, instead of leaving by the
//! default route and coming back.

use std::net::{Ipv4Addr, Ipv6Addr};

use flannel_model::lease::Subnets;
use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

/// Worse than every route that somebody would set, so that the route to the pods comes first, whenever it comes.
const METRIC: u32 = u32::MAX - 1;

/// Sees to it that the routes are there. Those that are there already stay as they are.
pub(crate) async fn ensure(subnets: &Subnets) -> Result<(), rtnetlink::Error> {
    each(subnets, |handle, message| async move {
        match handle.route().add(message).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => Ok(()),
            other => other,
        }
    })
    .await
}

/// Removes the routes of subnets that the node no longer has.
pub(crate) async fn remove(subnets: &Subnets) -> Result<(), rtnetlink::Error> {
    each(subnets, |handle, message| async move {
        match handle.route().del(message).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ESRCH => Ok(()),
            other => other,
        }
    })
    .await
}

async fn each<F: Future<Output = Result<(), rtnetlink::Error>>>(
    subnets: &Subnets,
    run: impl Fn(Handle, RouteMessage) -> F,
) -> Result<(), rtnetlink::Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| rtnetlink::Error::NamespaceError(error.to_string()))?;
    let task = tokio::spawn(connection);
    let outcome = futures::stream::iter(subnets.iter().map(Ok))
        .try_for_each(|subnet| run(handle.clone(), route(subnet)))
        .await;
    task.abort();
    outcome
}

fn route(subnet: IpNet) -> RouteMessage {
    match subnet {
        IpNet::V4(net) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .priority(METRIC)
            .kind(RouteType::BlackHole)
            .build(),
        IpNet::V6(net) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .priority(METRIC)
            .kind(RouteType::BlackHole)
            .build(),
    }
}
