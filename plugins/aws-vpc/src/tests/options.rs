//! What `register` takes and publishes.

use flannel_backend::testing::{Bench, samples, taken};

use super::ec2::{self, ENI, Ec2, OWN, Table};
use crate::AwsVpcPolicy;

fn register(config: &str) -> Result<Bench<AwsVpcPolicy>, String> {
    Bench::register(&samples::node(true, false), config)
}

#[test]
fn pods_get_the_interfaces_mtu_and_nothing_is_published() {
    let published = register("{}").expect("registers").registration;
    assert_eq!((published.backend_type.as_str(), published.mtu), ("", 1500));
    assert_eq!((published.backend_data, published.backend_v6_data), (None, None));
    assert_eq!(taken(), [""; 0]);
}

#[test]
fn the_option_is_a_text_or_several_whatever_the_case_of_its_name() {
    for (config, tables) in [
        ("{}", &[][..]),
        (r#"{"RouteTableID": null}"#, &[]),
        (r#"{"RouteTableID": "rtb-1"}"#, &["rtb-1"]),
        (r#"{"routetableid": ["rtb-1", "rtb-0abc", "rtb-1"]}"#, &["rtb-1", "rtb-0abc"]),
    ] {
        assert_eq!(register(config).expect("registers").policy.options.tables, tables, "{config}");
    }
}

#[test]
fn anything_else_is_refused_with_the_options_name_and_its_value() {
    for value in
        ["7", "true", "{}", "[]", "\"\"", "\"vtb-1\"", "\"rtb-\"", "\"rtb-1,rtb-2\"", "[\"rtb-1\",7]"]
    {
        let error = register(&format!("{{\"RouteTableID\": {value}}}")).err().expect("refused");
        let wrong = if value.starts_with("[\"") { "7" } else { value };
        let expected =
            format!("RouteTableID: {wrong} is no route table; right would be \"rtb-…\", or a list of them");
        assert_eq!(error, expected);
    }
}

#[test]
fn more_tables_than_a_tick_can_see_to_are_refused() {
    let tables: Vec<String> = (1..=33).map(|number| format!("\"rtb-{number}\"")).collect();
    let error = register(&format!("{{\"RouteTableID\": [{}]}}", tables.join(","))).err().expect("refused");
    assert_eq!(error, "RouteTableID: these are 33 route tables; at most 32");
}

#[test]
fn all_tables_of_the_option_get_a_row_and_no_other() {
    let cloud = Ec2::with(&[]);
    let other = |cloud: &ec2::Shared, id: &str| {
        let table = Table { rows: cloud.borrow().tables[ec2::TABLE].rows.clone(), ..Table::default() };
        cloud.borrow_mut().tables.insert(id.to_owned(), table);
    };
    other(&cloud, "rtb-2");
    other(&cloud, "rtb-3");
    let mut bench = ec2::bench(&cloud, r#"{"RouteTableID": ["rtb-3", "rtb-2"]}"#, (true, false));
    assert_eq!(ec2::tick(&mut bench), Ok(2));
    let cloud = cloud.borrow();
    assert_eq!(cloud.rows(ec2::TABLE), []);
    for table in ["rtb-2", "rtb-3"] {
        assert_eq!(cloud.rows(table), [(OWN, ENI)], "{table}");
    }
}
