//! A control plane that dies and comes back.

use anyhow::Result;
use flannel_lab::control_plane::{Mode, Part};

use super::Cluster;

#[test]
fn a_control_plane_that_was_killed_comes_back_with_its_nodes_and_gives_others_other_pod_cidrs() -> Result<()>
{
    let Some(mut cluster) = Cluster::start(Mode::Single, &[])? else { return Ok(()) };
    let admin = cluster.admin();
    admin.create_node("before", &[], &[("a", "b")])?;
    let cidrs = admin.wait_pod_cidrs("before")?;
    let before = admin.node("before")?;

    cluster.plane.kill_all();
    admin.get("/readyz").expect_err("nobody answers");
    cluster.plane.start_again()?;
    assert_eq!(admin.node("before")?, before);
    admin.create_node("after", &[], &[])?;
    assert_ne!(admin.wait_pod_cidrs("after")?, cidrs);
    Ok(())
}

#[test]
fn each_part_that_was_killed_comes_back_alone() -> Result<()> {
    let Some(mut cluster) = Cluster::start(Mode::Single, &[])? else { return Ok(()) };
    let admin = cluster.admin();
    for part in Part::ALL {
        cluster.plane.kill(part);
        cluster.plane.start_again()?;
        let name = format!("after-{}", part.name());
        admin.create_node(&name, &[], &[])?;
        admin.wait_pod_cidrs(&name)?;
    }
    Ok(())
}
