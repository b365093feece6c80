//! Which route tables it is.

use flannel_backend::testing::with;

use super::ec2::{self, ENI, Ec2, OWN, TABLE, Table, row, tick};

/// The same rows in the VPC's main table, which no subnet is associated with.
fn add_main(cloud: &ec2::Shared) {
    let rows = cloud.borrow().tables[TABLE].rows.clone();
    let main = Table { rows, is_main: true, subnet: None };
    cloud.borrow_mut().tables.insert("rtb-main".to_owned(), main);
}

#[test]
fn the_subnets_own_table_comes_before_the_main_one() {
    let cloud = Ec2::with(&[]);
    add_main(&cloud);
    assert_eq!(tick(&mut ec2::plain(&cloud)), Ok(2));
    let cloud = cloud.borrow();
    assert_eq!((cloud.rows(TABLE), cloud.rows("rtb-main")), (vec![(OWN, ENI)], vec![]));
    assert_eq!(
        cloud.reads.last().expect("read"),
        "DescribeRouteTables Filter.1.Name=association.subnet-id Filter.1.Value.1=subnet-1"
    );
}

#[test]
fn a_subnet_without_a_table_of_its_own_uses_the_main_one() {
    let cloud = Ec2::with(&[]);
    add_main(&cloud);
    cloud.borrow_mut().tables.get_mut(TABLE).expect("there").subnet = Some("subnet-2");
    assert_eq!(tick(&mut ec2::plain(&cloud)), Ok(2));
    let cloud = cloud.borrow();
    assert_eq!((cloud.rows(TABLE), cloud.rows("rtb-main")), (vec![], vec![(OWN, ENI)]));
    assert_eq!(
        cloud.reads.last().expect("read"),
        "DescribeRouteTables Filter.1.Name=association.main Filter.1.Value.1=true Filter.2.Name=vpc-id Filter.2.Value.1=vpc-1"
    );
}

#[test]
fn no_table_at_all_is_told() {
    let cloud = Ec2::with(&[]);
    cloud.borrow_mut().tables.clear();
    let expected = "neither subnet subnet-1 nor VPC vpc-1 has a route table: set RouteTableID";
    assert_eq!(tick(&mut ec2::plain(&cloud)), Err(expected.to_owned()));
}

#[test]
fn an_interface_of_unknown_place_needs_the_option() {
    let cloud = Ec2::with(&[]);
    let mut bench = ec2::plain(&cloud);
    with(|host| host.instance.as_mut().expect("an instance").interfaces[1].subnet.clear());
    let error = tick(&mut bench).expect_err("unknown");
    assert_eq!(
        error,
        "the metadata service does not say in which subnet and VPC eni-0a is: set RouteTableID"
    );
}

#[test]
fn all_pages_are_read() {
    let cloud = Ec2::with(&[row(OWN, ENI)]);
    for id in ["rtb-2", "rtb-3"] {
        let table = cloud.borrow().tables[TABLE].clone();
        cloud.borrow_mut().tables.insert(id.to_owned(), table);
    }
    let mut bench = ec2::bench(&cloud, r#"{"RouteTableID": ["rtb-1", "rtb-2", "rtb-3"]}"#, (true, false));
    assert_eq!(tick(&mut bench), Ok(60));
    assert_eq!(cloud.borrow().reads.iter().filter(|read| read.contains("RouteTableId.3=rtb-3")).count(), 3);
}

#[test]
fn a_table_of_the_option_that_is_not_there_is_told_and_keeps_no_other_from_its_row() {
    let cloud = Ec2::with(&[]);
    let mut bench = ec2::bench(&cloud, r#"{"RouteTableID": ["rtb-9", "rtb-1"]}"#, (true, false));
    assert_eq!(
        tick(&mut bench),
        Err("RouteTableID: DescribeRouteTables: EC2 answers InvalidRouteTableID.NotFound: as the reference says: name a route \
             table of this node's VPC, or leave the option out"
            .to_owned())
    );
    assert_eq!(cloud.borrow().rows(TABLE), [(OWN, ENI)]);
}
