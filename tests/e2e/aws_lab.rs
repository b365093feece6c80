//! The lab's Amazon is as Amazon's own library expects it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::cloud::aws::{ACCESS_KEY, Aws, Fault, Mode, ROLE};
use flannel_lab::cloud::python;
use flannel_lab::{Lab, Underlay, artifacts, child_reaper, wait};
use serde_json::{Value, json};

const SUBNET: &str = "10.5.1.0/24";

/// A lab with the cloud in it, and the library on its first node.
struct Bench {
    library: Library,
    aws: Aws,
    lab: Lab,
}

impl Bench {
    /// None: Python's libraries cannot be had on this machine.
    fn start() -> Result<Option<Self>> {
        let lab = Lab::new(2, Underlay::default())?;
        let Some(aws) = Aws::start(&lab)? else { return Ok(None) };
        let Some(library) = Library::start(&lab, &aws)? else { return Ok(None) };
        Ok(Some(Self { library, aws, lab }))
    }

    /// The parameters of a row in the table in use that leads to a node.
    fn row(&self, node: &str) -> Result<Value> {
        Ok(json!({
            "RouteTableId": self.aws.table_in_use(),
            "DestinationCidrBlock": SUBNET,
            "NetworkInterfaceId": self.aws.interface(node)?,
        }))
    }

    /// The next hop that the table shows to readers; none: there is no row.
    fn hop(&mut self) -> Result<Option<String>> {
        let answer = self.library.answer("describe_route_tables", json!({}))?;
        let table = self.aws.table_in_use();
        let mut tables = answer["RouteTables"].as_array().into_iter().flatten();
        let found = tables.find(|known| known["RouteTableId"] == table.as_str()).context("the table")?;
        let mut routes = found["Routes"].as_array().into_iter().flatten();
        let route = routes.find(|route| route["DestinationCidrBlock"] == SUBNET);
        Ok(route.and_then(|route| route["NetworkInterfaceId"].as_str()).map(str::to_owned))
    }
}

/// boto3, ready for steps.
struct Library {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Library {
    fn start(lab: &Lab, aws: &Aws) -> Result<Option<Self>> {
        let Some(interpreter) = python::interpreter()? else { return Ok(None) };
        let mut command = lab.node(0).namespace().command(interpreter);
        command.arg(artifacts::workspace().join("tests/python/clouds/aws_client.py")).arg(aws.url());
        command.env("HOME", lab.directory()).env("NO_PROXY", "*");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child_reaper::spawn(command)?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let mut library = Self { child, input, output };
        library.answer("as", json!({}))?;
        Ok(Some(library))
    }

    #[expect(clippy::needless_pass_by_value, reason = "steps are written where they are used")]
    fn step(&mut self, name: &str, parameters: Value) -> Result<Value> {
        writeln!(self.input, "{}", json!([name, parameters]))?;
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the library has ended");
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line:?}"))
    }

    /// What comes of a step that goes well.
    fn answer(&mut self, name: &str, parameters: Value) -> Result<Value> {
        let mut came = self.step(name, parameters)?;
        ensure!(came["answer"].is_object(), "{name}: {came}");
        Ok(came["answer"].take())
    }

    /// Status and code of a call that is refused.
    fn refusal(&mut self, name: &str, parameters: Value) -> Result<(u64, String)> {
        let came = self.step(name, parameters)?;
        let (Some(status), Some(code)) = (came["status"].as_u64(), came["code"].as_str()) else {
            anyhow::bail!("{name}: {came}")
        };
        Ok((status, code.to_owned()))
    }

    fn text(&mut self, path: &str) -> Result<String> {
        let answer = self.answer("text", json!({ "path": format!("latest/{path}") }))?;
        answer["text"].as_str().map(str::to_owned).context("a text")
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        child_reaper::end(&mut self.child);
    }
}

fn refused(status: u64, code: &str) -> (u64, String) {
    (status, code.to_owned())
}

#[test]
fn the_calls_of_a_backend_do_what_they_say() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let (ours, other) = (bench.aws.interface("node1")?, bench.aws.interface("node2")?);
    let (vpc, subnet) = bench.aws.network();
    let own = bench.aws.use_own_table()?;
    for filters in [
        json!([{ "Name": "association.subnet-id", "Values": [subnet] }]),
        json!([{ "Name": "association.main", "Values": ["true"] }, { "Name": "vpc-id", "Values": [vpc] }]),
    ] {
        let found = bench.library.answer("describe_route_tables", json!({ "Filters": filters }))?;
        assert_eq!(found["RouteTables"].as_array().map(Vec::len), Some(1), "{found}");
        let is_own = filters[0]["Name"] == "association.subnet-id";
        assert_eq!(found["RouteTables"][0]["RouteTableId"] == own.as_str(), is_own, "{found}");
    }
    let ids = json!({ "InstanceIds": [bench.aws.instance("node1")?] });
    let found = bench.library.answer("describe_instances", ids)?;
    let interface = &found["Reservations"][0]["Instances"][0]["NetworkInterfaces"][0];
    assert_eq!(interface["NetworkInterfaceId"], ours.as_str());
    assert_eq!(interface["SourceDestCheck"], true);
    let check = json!({ "NetworkInterfaceId": ours, "SourceDestCheck": { "Value": false } });
    bench.library.answer("modify_network_interface_attribute", check)?;
    assert!(!bench.aws.source_dest_check("node1")?);

    let (row, to_other) = (bench.row("node1")?, bench.row("node2")?);
    bench.library.answer("create_route", row.clone())?;
    assert_eq!(bench.hop()?.as_ref(), Some(&ours));
    assert_eq!(bench.library.refusal("create_route", to_other.clone())?, refused(400, "RouteAlreadyExists"));
    let kernel = bench.lab.switch().namespace().ip(&format!("route show {SUBNET}"))?;
    assert!(kernel.contains("via 192.168.77.11"), "{kernel}");
    bench.library.answer("replace_route", to_other)?;
    assert_eq!(bench.hop()?, Some(other));
    // Its interface still checks destinations.
    assert_eq!(bench.lab.switch().namespace().ip(&format!("route show {SUBNET}"))?, "");
    bench.aws.set_running("node2", false)?;
    assert_eq!(bench.aws.rows()[0].state, "blackhole");
    let place = json!({ "RouteTableId": own, "DestinationCidrBlock": SUBNET });
    bench.library.answer("delete_route", place.clone())?;
    assert_eq!(bench.hop()?, None);
    assert_eq!(bench.library.refusal("delete_route", place)?, refused(400, "InvalidRoute.NotFound"));
    assert_eq!(bench.library.refusal("replace_route", row)?, refused(400, "InvalidParameterValue"));
    assert_eq!((bench.aws.count("CreateRoute"), bench.aws.mutations()), (2, 7));
    Ok(())
}

#[test]
fn a_wrong_secret_is_refused() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    for (id, secret, expected) in [
        (ACCESS_KEY.0, "wrong", Some(refused(403, "SignatureDoesNotMatch"))),
        ("AKIAUNKNOWN", ACCESS_KEY.1, Some(refused(401, "AuthFailure"))),
        (ACCESS_KEY.0, ACCESS_KEY.1, None),
    ] {
        let key = json!({ "aws_access_key_id": id, "aws_secret_access_key": secret });
        bench.library.answer("as", key)?;
        match expected {
            Some(expected) => {
                assert_eq!(bench.library.refusal("describe_route_tables", json!({}))?, expected);
            }
            None => drop(bench.library.answer("describe_route_tables", json!({}))?),
        }
    }
    Ok(())
}

#[test]
fn credentials_that_are_over_are_refused_until_newer_ones_are_used() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.aws.expire_credentials();
    for (status, code) in [(400, "RequestExpired"), (400, "ExpiredToken"), (401, "AuthFailure")] {
        bench.aws.tell_expiry(status, code);
        let refusal = bench.library.refusal("describe_route_tables", json!({}))?;
        assert_eq!(refusal, refused(status.into(), code));
    }
    bench.library.answer("as", json!({}))?;
    bench.library.answer("describe_route_tables", json!({}))?;
    assert_eq!(bench.aws.issued(), 2);
    Ok(())
}

#[test]
fn what_goes_wrong_on_request_is_what_the_library_knows() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let row = bench.row("node1")?;
    for (fault, expected) in [
        (Fault::Throttled, refused(503, "RequestLimitExceeded")),
        (Fault::Broken, refused(500, "InternalError")),
        (Fault::Unavailable, refused(503, "Unavailable")),
    ] {
        bench.aws.fail("CreateRoute", fault, 1);
        assert_eq!(bench.library.refusal("create_route", row.clone())?, expected);
    }
    bench.aws.fail("CreateRoute", Fault::Silence(Duration::ZERO), 1);
    assert!(bench.library.step("create_route", row.clone())?["failed"].is_string());
    bench.aws.deny("CreateRoute");
    assert_eq!(bench.library.refusal("create_route", row.clone())?, refused(403, "UnauthorizedOperation"));
    bench.aws.allow_everything();
    bench.aws.limit(0);
    assert_eq!(bench.library.refusal("create_route", row.clone())?, refused(400, "RouteLimitExceeded"));
    assert_eq!(bench.aws.rows(), []);
    bench.aws.limit(1);
    bench.aws.fail("CreateRoute", Fault::Half, 1);
    assert!(bench.library.step("create_route", row)?["failed"].is_string());
    assert_eq!(bench.aws.rows().len(), 1);
    Ok(())
}

#[test]
fn reads_can_lag_behind() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.aws.lag(Duration::from_hours(1));
    let row = bench.row("node1")?;
    bench.library.answer("create_route", row)?;
    assert_eq!(bench.hop()?, None);
    bench.aws.lag(Duration::ZERO);
    wait::until_true("the row is seen", || Ok(bench.hop()?.is_some()))?;
    Ok(())
}

#[test]
fn metadata_is_given_in_all_modes_as_the_library_expects() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    for mode in [Mode::Both, Mode::TokensOnly, Mode::NoTokens] {
        bench.aws.set_mode(mode);
        let found = bench.library.answer("imds", json!({}))?;
        assert_eq!(found["role_name"], ROLE, "{mode:?}");
        let without = bench.library.step("imds", json!({ "ec2_metadata_v1_disabled": true }))?;
        assert_eq!(without["answer"].is_object(), mode != Mode::NoTokens, "{mode:?}: {without}");
    }
    bench.aws.set_mode(Mode::Both);
    let mac = bench.library.text("meta-data/mac")?;
    let interface = format!("meta-data/network/interfaces/macs/{mac}");
    let (vpc, subnet) = bench.aws.network();
    for (path, expected) in [
        ("meta-data/instance-id".to_owned(), bench.aws.instance("node1")?),
        ("meta-data/placement/region".to_owned(), "eu-central-1".to_owned()),
        ("meta-data/network/interfaces/macs/".to_owned(), format!("{mac}/")),
        (format!("{interface}/interface-id"), bench.aws.interface("node1")?),
        (format!("{interface}/local-ipv4s"), "192.168.77.11".to_owned()),
        (format!("{interface}/subnet-id"), subnet),
        (format!("{interface}/vpc-id"), vpc),
        ("meta-data/iam/security-credentials/".to_owned(), ROLE.to_owned()),
    ] {
        assert_eq!(bench.library.text(&path)?, expected, "{path}");
    }
    let document: Value = serde_json::from_str(&bench.library.text("dynamic/instance-identity/document")?)?;
    assert_eq!(document["accountId"], "123456789012");
    bench.aws.set_role("node1", false)?;
    assert_eq!(bench.library.answer("imds", json!({}))?, json!({}));
    Ok(())
}
