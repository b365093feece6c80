//! Which network interface it is, and its source/destination check.

use flannel_backend::cloud::Error as CloudError;
use flannel_backend::testing::{Bench, Host, samples, with};

use super::ec2::{self, ENI, Ec2, Fault, OWN, TABLE, row, tick};
use crate::AwsVpcPolicy;

const MODIFY: &str = "ModifyNetworkInterfaceAttribute NetworkInterfaceId=eni-0a SourceDestCheck.Value=false";

#[test]
fn with_ipv6_alone_the_interface_is_found_by_its_ipv6_address() {
    let cloud = Ec2::with(&[]);
    let mut bench = ec2::bench(&cloud, "{}", (false, true));
    assert_eq!(tick(&mut bench), Ok(2));
    assert_eq!(cloud.borrow().rows(TABLE), [(ec2::OWN_V6, ENI)]);
}

#[test]
fn an_address_that_no_interface_has_is_told_with_those_that_there_are() {
    let cloud = Ec2::with(&[]);
    let mut bench = ec2::plain(&cloud);
    with(|host| host.instance.as_mut().expect("an instance").interfaces.truncate(1));
    assert_eq!(
        tick(&mut bench),
        Err("no network interface of instance i-me has the address 192.168.0.100 of eth0; there are: eni-00 (192.168.7.7). \
             Name another one with --iface"
            .to_owned())
    );
    assert_eq!(cloud.borrow().reads, [""; 0]);
}

#[test]
fn what_the_metadata_service_fails_with_is_told() {
    let host = Host {
        instance: Err(CloudError::Unreachable("169.254.169.254: no route".into())),
        ..Host::default()
    };
    let mut bench =
        Bench::<AwsVpcPolicy>::register_on(host, &samples::node(true, false), "{}").expect("registers");
    bench.lease_acquired(&samples::own()).expect("leased");
    assert_eq!(tick(&mut bench), Err("169.254.169.254: no route".to_owned()));
}

#[test]
fn a_check_that_is_on_is_turned_off() {
    let cloud = Ec2::with(&[row(OWN, ENI)]);
    cloud.borrow_mut().is_checked = true;
    let mut bench = ec2::plain(&cloud);
    assert_eq!(tick(&mut bench), Ok(2));
    assert_eq!(tick(&mut bench), Ok(60));
    assert_eq!(cloud.borrow().changes, [MODIFY]);
}

#[test]
fn a_check_that_may_not_be_turned_off_is_warned_of_once_and_routes_are_made() {
    let cloud = Ec2::with(&[]);
    let mut bench = ec2::plain(&cloud);
    for _ in 0..3 {
        let mut cloud = cloud.borrow_mut();
        cloud.is_checked = true;
        cloud.fail(
            "ModifyNetworkInterfaceAttribute",
            Fault::Refused(403, "UnauthorizedOperation", "You may not."),
        );
        drop(cloud);
        tick(&mut bench).expect("only a warning");
    }
    let warnings = ec2::warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("allow ec2:ModifyNetworkInterfaceAttribute"), "{warnings:?}");
    assert_eq!(cloud.borrow().rows(TABLE), [(OWN, ENI)]);
}

#[test]
fn a_check_that_cannot_be_read_is_not_changed() {
    let cloud = Ec2::with(&[row(OWN, ENI)]);
    cloud.borrow_mut().is_checked = true;
    for (fault, told) in [
        (Fault::Refused(403, "UnauthorizedOperation", "You may not."), "allow ec2:DescribeNetworkInterfaces"),
        (
            Fault::Odd(
                200,
                "<DescribeNetworkInterfacesResponse><networkInterfaceSet/></DescribeNetworkInterfacesResponse>",
            ),
            "it lacks eni-0a",
        ),
        (
            Fault::Odd(
                200,
                "<DescribeNetworkInterfacesResponse><networkInterfaceSet><item><networkInterfaceId>eni-0a</networkInterfaceId>\
                 </item></networkInterfaceSet></DescribeNetworkInterfacesResponse>",
            ),
            "sourceDestCheck is missing",
        ),
    ] {
        let mut bench = ec2::plain(&cloud);
        cloud.borrow_mut().fail("DescribeNetworkInterfaces", fault);
        assert_eq!(tick(&mut bench), Ok(60));
        assert!(ec2::warnings()[0].contains(told), "{:?}", ec2::warnings());
    }
    assert_eq!(cloud.borrow().changes, [""; 0]);
}

#[test]
fn the_same_trouble_is_told_again_after_it_was_gone() {
    let cloud = Ec2::with(&[row(OWN, ENI)]);
    let mut bench = ec2::plain(&cloud);
    for is_denied in [true, false, true] {
        if is_denied {
            let fault = Fault::Refused(403, "UnauthorizedOperation", "You may not.");
            cloud.borrow_mut().fail("DescribeNetworkInterfaces", fault);
        }
        assert_eq!(tick(&mut bench), Ok(60));
    }
    assert_eq!(ec2::warnings().len(), 2);
}
