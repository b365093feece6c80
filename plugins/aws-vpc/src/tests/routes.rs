//! What is kept, made, changed and removed.

use std::time::Duration;

use flannel_backend::Lease;
use flannel_backend::testing::{Bench, samples, with};

use super::ec2::{self, ENI, Ec2, OTHER, OWN, OWN_V6, PROPAGATED, Row, TABLE, blackhole, gateway, row, tick};
use crate::AwsVpcPolicy;

#[test]
fn a_row_that_is_right_is_kept_with_no_call_that_changes_anything() {
    let cloud = Ec2::with(&[row(OWN, ENI), row(OWN_V6, ENI), row("10.5.3.0/24", OTHER)]);
    for _restart in 0..3 {
        let mut bench = ec2::bench(&cloud, "{}", (true, true));
        assert_eq!(tick(&mut bench), Ok(60));
        assert_eq!(tick(&mut bench), Ok(60));
    }
    assert_eq!(cloud.borrow().changes, [""; 0]);
}

#[test]
fn nothing_is_asked_before_there_is_a_lease() {
    let cloud = Ec2::with(&[row("10.5.9.0/24", ENI)]);
    let mut bench = ec2::plain(&cloud);
    bench.policy.own.clear();
    assert_eq!(tick(&mut bench), Ok(60));
    assert_eq!(cloud.borrow().reads, [""; 0]);
}

#[test]
fn a_missing_row_is_made_and_looked_at_soon() {
    let cloud = Ec2::with(&[]);
    let mut bench = ec2::plain(&cloud);
    assert_eq!(tick(&mut bench), Ok(2));
    assert_eq!(tick(&mut bench), Ok(60));
    let expected =
        "CreateRoute DestinationCidrBlock=10.5.72.0/24 NetworkInterfaceId=eni-0a RouteTableId=rtb-1";
    assert_eq!(cloud.borrow().changes, [expected]);
}

#[test]
fn a_row_deleted_by_hand_comes_back() {
    let cloud = Ec2::with(&[]);
    let mut bench = ec2::plain(&cloud);
    for _ in 0..2 {
        assert_eq!(tick(&mut bench), Ok(2));
        assert_eq!(tick(&mut bench), Ok(60));
        assert_eq!(cloud.borrow().rows(TABLE), [(OWN, ENI)]);
        cloud.borrow_mut().tables.get_mut(TABLE).expect("there").rows.pop();
    }
}

#[test]
fn in_dual_stack_each_family_has_a_row() {
    let cloud = Ec2::with(&[]);
    assert_eq!(tick(&mut ec2::bench(&cloud, "{}", (true, true))), Ok(2));
    let cloud = cloud.borrow();
    assert_eq!(cloud.rows(TABLE), [(OWN, ENI), (OWN_V6, ENI)]);
    let expected =
        "CreateRoute DestinationIpv6CidrBlock=fc00:5:0:72::/64 NetworkInterfaceId=eni-0a RouteTableId=rtb-1";
    assert_eq!(cloud.changes[1], expected);
}

#[test]
fn a_row_for_our_subnet_that_leads_elsewhere_is_replaced_in_one_step() {
    let instance = Row { hop: ("instanceId", "i-other".to_owned()), ..row(OWN, "") };
    let nat = Row { hop: ("natGatewayId", "nat-1".to_owned()), ..row(OWN, "") };
    for wrong in [row(OWN, OTHER), blackhole(OWN, OTHER), blackhole(OWN, ENI), instance, nat] {
        let cloud = Ec2::with(std::slice::from_ref(&wrong));
        let mut bench = ec2::plain(&cloud);
        assert_eq!(tick(&mut bench), Ok(2), "{wrong:?}");
        assert_eq!(tick(&mut bench), Ok(60), "{wrong:?}");
        let cloud = cloud.borrow();
        let expected =
            "ReplaceRoute DestinationCidrBlock=10.5.72.0/24 NetworkInterfaceId=eni-0a RouteTableId=rtb-1";
        assert_eq!(
            (cloud.changes.as_slice(), cloud.rows(TABLE)),
            (&[expected.to_owned()][..], vec![(OWN, ENI)])
        );
    }
}

#[test]
fn a_row_to_the_instance_without_an_interface_is_right() {
    let cloud = Ec2::with(&[Row { hop: ("instanceId", "i-me".to_owned()), ..row(OWN, "") }]);
    assert_eq!(tick(&mut ec2::plain(&cloud)), Ok(60));
}

#[test]
fn a_propagated_row_for_our_subnet_is_none_of_ours() {
    let cloud = Ec2::with(&[gateway(OWN, "vgw-1", PROPAGATED)]);
    let mut bench = ec2::plain(&cloud);
    assert_eq!(tick(&mut bench), Ok(2));
    assert_eq!(tick(&mut bench), Ok(60));
    assert_eq!(cloud.borrow().rows(TABLE), [(OWN, "vgw-1"), (OWN, ENI)]);
}

#[test]
fn blackholes_are_removed_inside_the_clusters_network_alone() {
    let kept = [
        row(OWN, ENI),
        row(OWN_V6, ENI),
        blackhole("10.6.3.0/24", "eni-gone"),
        blackhole("10.0.0.0/8", "eni-gone"),
        blackhole("fc00:6::/64", "eni-gone"),
        Row { origin: PROPAGATED, ..blackhole("10.5.5.0/24", "vgw-1") },
    ];
    let cloud = Ec2::with(&kept);
    let before = cloud.borrow().tables[TABLE].rows.clone();
    let more = [blackhole("10.5.3.0/24", "eni-gone"), blackhole("fc00:5:0:3::/64", "eni-gone")];
    cloud.borrow_mut().tables.get_mut(TABLE).expect("there").rows.extend(more);
    let mut bench = ec2::bench(&cloud, "{}", (true, true));
    assert_eq!(tick(&mut bench), Ok(2));
    assert_eq!(tick(&mut bench), Ok(60));
    let cloud = cloud.borrow();
    assert_eq!(cloud.tables[TABLE].rows, before);
    assert_eq!(
        cloud.changes,
        [
            "DeleteRoute DestinationCidrBlock=10.5.3.0/24 RouteTableId=rtb-1",
            "DeleteRoute DestinationIpv6CidrBlock=fc00:5:0:3::/64 RouteTableId=rtb-1",
        ]
    );
}

#[test]
fn rows_of_our_own_that_are_stale_are_removed_inside_the_clusters_network_alone() {
    let kept = [row(OWN, ENI), row("10.6.9.0/24", ENI), row("10.5.3.0/24", OTHER)];
    let cloud = Ec2::with(&kept);
    let before = cloud.borrow().tables[TABLE].rows.clone();
    let instance = Row { hop: ("instanceId", "i-me".to_owned()), ..row("10.5.8.0/24", "") };
    cloud.borrow_mut().tables.get_mut(TABLE).expect("there").rows.extend([row("10.5.9.0/24", ENI), instance]);
    assert_eq!(tick(&mut ec2::plain(&cloud)), Ok(2));
    assert_eq!(cloud.borrow().tables[TABLE].rows, before);
}

fn lease_another(bench: &mut Bench<AwsVpcPolicy>) {
    let subnet = "10.5.80.0/24".parse().expect("a subnet");
    bench.lease_acquired(&Lease { ipv4_subnet: Some(subnet), ..samples::own() }).expect("leased");
}

#[test]
fn after_another_lease_there_is_the_new_row_and_not_the_old_one() {
    let cloud = Ec2::with(&[row(OWN, ENI)]);
    let mut bench = ec2::plain(&cloud);
    lease_another(&mut bench);
    assert_eq!(tick(&mut bench), Ok(2));
    assert_eq!(tick(&mut bench), Ok(60));
    assert_eq!(cloud.borrow().rows(TABLE), [("10.5.80.0/24", ENI)]);
}

#[test]
fn a_removed_row_that_is_still_seen_is_not_removed_again_before_it_has_settled() {
    let cloud = Ec2::with(&[row(OWN, ENI)]);
    let mut bench = ec2::plain(&cloud);
    lease_another(&mut bench);
    assert_eq!(tick(&mut bench), Ok(2));
    // By now it is another node's; but what is read still shows this one's.
    cloud.borrow_mut().tables.get_mut(TABLE).expect("there").rows.push(row(OWN, OTHER));
    let mut old = cloud.borrow().tables.clone();
    old.get_mut(TABLE).expect("there").rows.last_mut().expect("a row").hop.1 = ENI.to_owned();
    cloud.borrow_mut().seen = Some(old);
    assert_eq!(tick(&mut bench), Ok(2));
    assert_eq!(cloud.borrow().rows(TABLE), [("10.5.80.0/24", ENI), (OWN, OTHER)]);
    with(|host| host.now += Duration::from_secs(20));
    cloud.borrow_mut().seen = None;
    assert_eq!(tick(&mut bench), Ok(60));
    assert_eq!(cloud.borrow().rows(TABLE), [("10.5.80.0/24", ENI), (OWN, OTHER)]);
}

#[test]
fn what_is_too_much_for_one_tick_is_left_to_the_next() {
    let gone: Vec<Row> = (100..200).map(|n| blackhole(&format!("10.5.{n}.0/24"), "eni-gone")).collect();
    let cloud = Ec2::with(&gone);
    cloud.borrow_mut().quota = 1000;
    let mut bench = ec2::plain(&cloud);
    let mut before = 0;
    for wait in [2, 2, 60] {
        assert_eq!(tick(&mut bench), Ok(wait));
        let after = cloud.borrow().reads.len() + cloud.borrow().changes.len();
        assert!(after - before < 64, "{before} {after}");
        before = after;
    }
    assert_eq!(cloud.borrow().rows(TABLE), [(OWN, ENI)]);
}

#[test]
fn at_the_end_all_rows_to_this_node_go_and_no_others() {
    let outside = row("10.6.0.0/24", ENI);
    let others = [row("10.5.3.0/24", OTHER), blackhole("10.5.4.0/24", "eni-gone"), outside];
    let mine = [row(OWN, ENI), row("10.5.9.0/24", ENI)];
    let cloud = Ec2::with(&[&others[..], &mine[..]].concat());
    let mut bench = ec2::plain(&cloud);
    while bench.retire().expect("goes well").is_some() {}
    let left = [("10.5.3.0/24", OTHER), ("10.5.4.0/24", "eni-gone"), ("10.6.0.0/24", ENI)];
    assert_eq!(cloud.borrow().rows(TABLE), left);
    let changes = &cloud.borrow().changes;
    assert!(
        changes.len() == 2 && changes.iter().all(|change| change.starts_with("DeleteRoute")),
        "{changes:?}"
    );
}
