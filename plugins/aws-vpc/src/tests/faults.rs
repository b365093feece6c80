//! Races, refusals, and answers that are none.

use flannel_backend::testing::with;

use super::ec2::{self, ENI, Ec2, Fault, OTHER, OWN, PROPAGATED, TABLE, blackhole, gateway, row, tick};

#[test]
fn a_read_that_does_not_show_the_new_row_yet_does_no_harm() {
    let cloud = Ec2::with(&[]);
    let old = cloud.borrow().tables.clone();
    cloud.borrow_mut().seen = Some(old);
    let mut bench = ec2::plain(&cloud);
    for _ in 0..3 {
        assert_eq!(tick(&mut bench), Ok(2));
        assert_eq!(cloud.borrow().rows(TABLE), [(OWN, ENI)]);
    }
    cloud.borrow_mut().seen = None;
    assert_eq!(tick(&mut bench), Ok(60));
}

#[test]
fn a_row_that_somebody_has_made_meanwhile_is_replaced_the_next_time() {
    let cloud = Ec2::with(&[]);
    let old = cloud.borrow().tables.clone();
    cloud.borrow_mut().tables.get_mut(TABLE).expect("there").rows.push(row(OWN, OTHER));
    cloud.borrow_mut().seen = Some(old);
    let mut bench = ec2::plain(&cloud);
    assert_eq!(tick(&mut bench), Ok(2));
    cloud.borrow_mut().seen = None;
    assert_eq!(tick(&mut bench), Ok(2));
    assert_eq!(tick(&mut bench), Ok(60));
    assert_eq!(cloud.borrow().rows(TABLE), [(OWN, ENI)]);
}

#[test]
fn a_row_that_somebody_has_removed_meanwhile_is_no_error() {
    let cloud = Ec2::with(&[row(OWN, OTHER), blackhole("10.5.3.0/24", "eni-gone")]);
    let old = cloud.borrow().tables.clone();
    cloud.borrow_mut().tables.get_mut(TABLE).expect("there").rows.truncate(2);
    cloud.borrow_mut().seen = Some(old);
    let mut bench = ec2::plain(&cloud);
    assert_eq!(tick(&mut bench), Ok(2));
    assert_eq!(cloud.borrow().changes.len(), 2);
    // The other way in which ReplaceRoute says so.
    let message = "There is no route defined for '10.5.72.0/24' in the route table. Use CreateRoute instead.";
    cloud.borrow_mut().fail("ReplaceRoute", Fault::Refused(400, "InvalidParameterValue", message));
    assert_eq!(tick(&mut bench), Ok(2));
    cloud.borrow_mut().seen = None;
    assert_eq!(tick(&mut bench), Ok(2));
    assert_eq!(tick(&mut bench), Ok(60));
    assert_eq!(cloud.borrow().rows(TABLE), [(OWN, ENI)]);
}

#[test]
fn what_goes_on_contradicting_itself_is_told() {
    let cloud = Ec2::with(&[]);
    let old = cloud.borrow().tables.clone();
    cloud.borrow_mut().seen = Some(old);
    let mut bench = ec2::plain(&cloud);
    let told = (0..40).find_map(|_| tick(&mut bench).err()).expect("told");
    assert_eq!(
        told,
        "still waiting after 30 attempts: route table rtb-1: CreateRoute: EC2 answers RouteAlreadyExists: as the reference says"
    );
}

#[test]
fn an_answer_that_is_lost_leaves_one_row() {
    let cloud = Ec2::with(&[]);
    cloud.borrow_mut().fail("CreateRoute", Fault::Lost);
    let mut bench = ec2::plain(&cloud);
    let error = tick(&mut bench).expect_err("lost");
    assert_eq!(error, "route table rtb-1: CreateRoute: the answer breaks off");
    assert_eq!(tick(&mut bench), Ok(60));
    assert_eq!(cloud.borrow().changes.len(), 1);
}

#[test]
fn a_cloud_that_cannot_be_reached_is_told() {
    let mut bench = ec2::plain(&Ec2::with(&[]));
    with(|host| host.cloud = None);
    assert_eq!(tick(&mut bench), Err("DescribeRouteTables: this test has no cloud".to_owned()));
}

#[test]
fn a_full_table_is_told_with_its_count_and_the_quota() {
    let cloud = Ec2::with(&[row("10.5.3.0/24", OTHER), gateway("10.9.0.0/16", "vgw-1", PROPAGATED)]);
    cloud.borrow_mut().quota = 4;
    let mut bench = ec2::plain(&cloud);
    assert_eq!(
        tick(&mut bench),
        Err("route table rtb-1 is full, with 3 IPv4 routes: CreateRoute: EC2 answers RouteLimitExceeded: as the reference \
             says: remove some, or have the quota \"Routes per route table\" of Amazon VPC raised"
            .to_owned())
    );
    cloud.borrow_mut().quota = 5;
    assert_eq!(tick(&mut bench), Ok(2));
}

#[test]
fn a_blackhole_that_is_removed_makes_room_in_the_same_tick() {
    let cloud = Ec2::with(&[blackhole("10.5.3.0/24", "eni-gone")]);
    cloud.borrow_mut().quota = 3;
    assert_eq!(tick(&mut ec2::plain(&cloud)), Ok(2));
    assert_eq!(cloud.borrow().rows(TABLE), [(OWN, ENI)]);
}

#[test]
fn a_missing_permission_is_named_and_its_secret_text_is_left_out() {
    let cloud = Ec2::with(&[]);
    let message =
        "You are not authorized to perform this operation. Encoded authorization failure message: Zm9vYmFy";
    cloud.borrow_mut().fail("CreateRoute", Fault::Refused(403, "UnauthorizedOperation", message));
    assert_eq!(
        tick(&mut ec2::plain(&cloud)),
        Err("route table rtb-1: CreateRoute: EC2 answers UnauthorizedOperation: You are not authorized to perform this \
             operation: allow ec2:CreateRoute to this machine's role or user; `flanneld plugin inspect` prints the whole policy"
            .to_owned())
    );
}

#[test]
fn a_step_that_fails_keeps_no_other_from_being_taken() {
    let cloud = Ec2::with(&[blackhole("10.5.3.0/24", "eni-gone")]);
    let table = cloud.borrow().tables[TABLE].clone();
    cloud.borrow_mut().tables.insert("rtb-2".to_owned(), table);
    for _ in 0..2 {
        cloud.borrow_mut().fail("DeleteRoute", Fault::Refused(403, "UnauthorizedOperation", "You may not."));
    }
    let mut bench = ec2::bench(&cloud, r#"{"RouteTableID": ["rtb-1", "rtb-2"]}"#, (true, false));
    let error = tick(&mut bench).expect_err("two failures");
    let parts: Vec<&str> = error.split("; route table").collect();
    assert_eq!(parts.len(), 2, "{error}");
    assert!(parts[0].contains("rtb-1") && parts[1].contains("rtb-2"), "{error}");
    for table in ["rtb-1", "rtb-2"] {
        assert_eq!(cloud.borrow().rows(table).last(), Some(&(OWN, ENI)));
    }
}

#[test]
fn what_is_no_answer_of_ec2_is_told_and_changes_nothing() {
    for (status, body, told) in [
        (
            502,
            "<html><body>Bad Gateway</body></html>",
            "of status 502, is not what EC2 documents: it is \"html\", without an error",
        ),
        (200, "", "of status 200, is not what EC2 documents: "),
        (200, "<DescribeRouteTablesResponse><routeTableSet><item>", "is not what EC2 documents: "),
        (200, "<DescribeVpcsResponse/>", "it is \"DescribeVpcsResponse\""),
        (200, "<DescribeRouteTablesResponse/>", "routeTableSet is missing"),
        (
            200,
            "<!DOCTYPE a [<!ENTITY b \"c\">]><DescribeRouteTablesResponse/>",
            "is not what EC2 documents: ",
        ),
        (
            200,
            concat!(
                "<DescribeRouteTablesResponse><routeTableSet><item><routeSet/></item></routeTableSet>",
                "</DescribeRouteTablesResponse>"
            ),
            "routeTableId is missing",
        ),
        (
            200,
            concat!(
                "<DescribeRouteTablesResponse><routeTableSet><item><routeTableId>rtb-1</routeTableId><routeSet><item>",
                "<destinationCidrBlock>10.5.72.0/240</destinationCidrBlock><state>active</state><origin>CreateRoute</origin>",
                "</item></routeSet></item></routeTableSet></DescribeRouteTablesResponse>"
            ),
            "\"10.5.72.0/240\" is no destination",
        ),
        (
            200,
            concat!(
                "<DescribeRouteTablesResponse><routeTableSet><item><routeTableId>rtb-1</routeTableId><routeSet><item>",
                "<destinationCidrBlock>10.5.72.0/24</destinationCidrBlock><origin>CreateRoute</origin>",
                "</item></routeSet></item></routeTableSet></DescribeRouteTablesResponse>"
            ),
            "state is missing",
        ),
    ] {
        let cloud = Ec2::with(&[]);
        cloud.borrow_mut().fail("DescribeRouteTables", Fault::Odd(status, body));
        let error = tick(&mut ec2::plain(&cloud)).expect_err("no answer");
        assert!(error.starts_with("DescribeRouteTables: the answer") && error.contains(told), "{error}");
        assert!(!error.contains('\n') && cloud.borrow().changes.is_empty(), "{error}");
    }
}

#[test]
fn a_change_that_ec2_answers_with_false_is_told() {
    let cloud = Ec2::with(&[]);
    let body = "<CreateRouteResponse><return>false</return></CreateRouteResponse>";
    cloud.borrow_mut().fail("CreateRoute", Fault::Odd(200, body));
    let error = tick(&mut ec2::plain(&cloud)).expect_err("not carried out");
    assert!(error.contains("return: \"false\""), "{error}");
}

#[test]
fn pages_without_end_are_told() {
    let cloud = Ec2::with(&[]);
    for _ in 0..20 {
        let body = "<DescribeRouteTablesResponse><routeTableSet/><nextToken>a</nextToken></DescribeRouteTablesResponse>";
        cloud.borrow_mut().fail("DescribeRouteTables", Fault::Odd(200, body));
    }
    let error = tick(&mut ec2::plain(&cloud)).expect_err("no end");
    assert_eq!(error, "DescribeRouteTables: there is no end of it after 20 pages");
}
