//! The lab's Alibaba Cloud is what the vendor's own libraries expect, the older ones and the newer ones alike.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::cloud::alibaba::{ACCESS_KEY, Alibaba, Fault, instance_at};
use flannel_lab::{Lab, Namespace, Underlay, artifacts, child_reaper, cloud::python, wait};
use serde_json::{Value, json};

const OUR_SUBNET: &str = "10.5.3.0/24";

/// A lab with the cloud in it.
struct Cloud {
    alibaba: Alibaba,
    lab: Lab,
}

impl Cloud {
    fn start() -> Result<Self> {
        let lab = Lab::new(1, Underlay::default())?;
        let router = lab.switch().namespace();
        let alibaba = Alibaba::start(router, flannel_lab::Place::Near.gateway().into(), "lan")?;
        Ok(Self { alibaba, lab })
    }

    fn library(&self, scheme: &str, credentials: &[&str]) -> Result<Option<Library>> {
        let port = self.alibaba.endpoint().rsplit(':').next().unwrap_or_default().to_owned();
        Library::start(self.lab.node(0).namespace(), scheme, &port, credentials)
    }
}

/// A vendor's library, ready for calls.
struct Library {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Library {
    /// None: it cannot be had on this machine.
    fn start(on: &Namespace, scheme: &str, port: &str, credentials: &[&str]) -> Result<Option<Self>> {
        let Some(interpreter) = python::interpreter()? else { return Ok(None) };
        let mut command = on.command(interpreter);
        command.arg(artifacts::workspace().join("tests/python/clouds/alibaba.py"));
        command.args([scheme, "192.168.77.1", port]).args(credentials);
        command.env_remove("http_proxy").env_remove("HTTP_PROXY");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child_reaper::spawn(command)?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Some(Self { child, input, output }))
    }

    #[allow(clippy::needless_pass_by_value, reason = "what json! makes is handed over as it is")]
    fn call(&mut self, action: &str, parameters: Value) -> Result<Value> {
        writeln!(self.input, "{}", json!([action, parameters]))?;
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the library has ended");
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line:?}"))
    }

    /// What a call answers that goes well. Everything in it must have been understood.
    fn answer(&mut self, action: &str, parameters: Value) -> Result<Value> {
        let came = self.call(action, parameters)?;
        let unread = came["unread"].as_array().map_or(0, Vec::len);
        let answer = came.get("answer").filter(|_| unread == 0).cloned();
        answer.with_context(|| format!("{action}: {came}"))
    }

    /// Status and code of a call that is refused.
    fn refusal(&mut self, action: &str, parameters: Value) -> Result<(u64, String)> {
        let came = self.call(action, parameters)?;
        let parts = (came["status"].as_u64(), came["code"].as_str());
        let (Some(status), Some(code)) = parts else { anyhow::bail!("{action}: {came}") };
        Ok((status, code.to_owned()))
    }

    /// The entries of a table, read page by page.
    fn entries(&mut self, table: &str, page: usize) -> Result<Vec<Value>> {
        let (mut entries, mut token) = (Vec::new(), String::new());
        loop {
            let mut asked = json!({ "RegionId": "cn-hangzhou", "RouteTableId": table, "MaxResult": page });
            if !token.is_empty() {
                asked["NextToken"] = json!(token);
            }
            let answer = self.answer("DescribeRouteEntryList", asked)?;
            let part = answer["RouteEntrys"]["RouteEntry"].as_array().context("entries")?;
            ensure!(part.len() <= page, "a page of {}", part.len());
            entries.extend(part.iter().cloned());
            answer["NextToken"].as_str().unwrap_or_default().clone_into(&mut token);
            if token.is_empty() {
                return Ok(entries);
            }
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        child_reaper::end(&mut self.child);
    }
}

/// Does something with each of the two generations of libraries and a cloud of its own.
fn with_both(credentials: &[&str], work: impl Fn(&Cloud, &mut Library) -> Result<()>) -> Result<()> {
    for scheme in ["v1", "v3"] {
        let cloud = Cloud::start()?;
        let Some(mut library) = cloud.library(scheme, credentials)? else { return Ok(()) };
        work(&cloud, &mut library).with_context(|| scheme.to_owned())?;
    }
    Ok(())
}

fn key() -> [&'static str; 3] {
    ["key", ACCESS_KEY.0, ACCESS_KEY.1]
}

fn wish(table: &str, instance: &str, token: &str) -> Value {
    json!({
        "RegionId": "cn-hangzhou",
        "RouteTableId": table,
        "DestinationCidrBlock": OUR_SUBNET,
        "NextHopType": "Instance",
        "NextHopId": instance,
        "ClientToken": token,
    })
}

#[test]
fn the_libraries_find_the_way_from_the_network_to_its_route_table() -> Result<()> {
    with_both(&key(), |cloud, library| {
        let region = json!("cn-hangzhou");
        let asked = json!({ "RegionId": region, "VpcId": "vpc-lab00000000000000001" });
        let vpcs = library.answer("DescribeVpcs", asked.clone())?;
        let router = vpcs["Vpcs"]["Vpc"][0]["VRouterId"].clone();
        let routers =
            library.answer("DescribeVRouters", json!({ "RegionId": region, "VRouterId": router }))?;
        let table = routers["VRouters"]["VRouter"][0]["RouteTableIds"]["RouteTableId"][0].clone();
        assert_eq!(table, cloud.alibaba.table());
        let asked_table = json!({ "RegionId": region, "VRouterId": router, "RouteTableId": table });
        let tables = library.answer("DescribeRouteTables", asked_table)?;
        let entries = &tables["RouteTables"]["RouteTable"][0]["RouteEntrys"]["RouteEntry"];
        assert_eq!(entries[0]["DestinationCidrBlock"], "192.168.77.0/24", "{tables}");
        let list = library.call("DescribeRouteTableList", asked)?;
        let all = &list["answer"]["RouterTableList"]["RouterTableListType"];
        assert_eq!(
            (&all[0]["RouteTableId"], &all[0]["RouteTableType"]),
            (&table, &json!("System")),
            "{list}"
        );
        // The documentation has these three in the answer, and the newer library's classes do not.
        assert!(
            list["unread"].is_null() || list["unread"] == json!([".Code", ".Message", ".Success"]),
            "{list}"
        );
        Ok(())
    })
}

#[test]
fn an_entry_is_pending_and_then_available_and_a_route() -> Result<()> {
    with_both(&key(), |cloud, library| {
        let (table, node) = (cloud.alibaba.table(), cloud.lab.node(0).address());
        cloud.alibaba.set_settling(Duration::from_secs(1));
        let made = library.answer("CreateRouteEntry", wish(&table, &instance_at(node.into()), "one"))?;
        let status = |library: &mut Library| -> Result<Value> {
            let entries = library.entries(&table, 100)?;
            let entry = entries.into_iter().find(|entry| entry["RouteEntryId"] == made["RouteEntryId"]);
            Ok(entry.map_or(Value::Null, |entry| entry["Status"].clone()))
        };
        assert_eq!(status(library)?, "Pending");
        let refused = library.refusal("CreateRouteEntry", wish(&table, &instance_at(node.into()), "two"))?;
        assert_eq!(refused, (400, "IncorrectRouteEntryStatus".to_owned()));
        wait::until_true("the entry is in force", || Ok(status(library)? == "Available"))?;
        let routes = cloud.lab.switch().namespace().ip("route show 10.5.3.0/24")?;
        assert!(routes.contains(&format!("via {node}")), "{routes}");
        let asked = json!({ "RegionId": "cn-hangzhou", "RouteEntryId": made["RouteEntryId"] });
        library.answer("DeleteRouteEntry", asked.clone())?;
        wait::until_true("the entry is gone", || Ok(status(library)?.is_null()))?;
        assert_eq!(cloud.lab.switch().namespace().ip("route show 10.5.3.0/24")?, "");
        let refused = library.refusal("DeleteRouteEntry", asked)?;
        assert_eq!(refused, (400, "InvalidRouteEntry.NotFound".to_owned()));
        Ok(())
    })
}

#[test]
fn a_call_that_comes_again_with_its_token_makes_nothing_twice() -> Result<()> {
    with_both(&key(), |cloud, library| {
        let (table, node) = (cloud.alibaba.table(), cloud.lab.node(0).address());
        let instance = instance_at(node.into());
        let first = library.answer("CreateRouteEntry", wish(&table, &instance, "one"))?;
        let again = library.answer("CreateRouteEntry", wish(&table, &instance, "one"))?;
        assert_eq!(first["RouteEntryId"], again["RouteEntryId"]);
        assert_ne!(first["RequestId"], again["RequestId"]);
        assert_eq!(cloud.alibaba.entries().len(), 1);
        let other = wish(&table, &instance_at([192, 168, 77, 12].into()), "one");
        let refused = library.refusal("CreateRouteEntry", other)?;
        assert_eq!(refused, (400, "IdempotentParameterMismatch".to_owned()));
        wait::until_true("the entry is in force", || Ok(!cloud.alibaba.rows().is_empty()))?;
        let refused = library.refusal("CreateRouteEntry", wish(&table, &instance, "two"))?;
        assert_eq!(refused, (400, "InvalidCIDRBlock.Duplicate".to_owned()));
        Ok(())
    })
}

#[test]
fn entries_come_in_pages_and_can_be_asked_for_by_next_hop() -> Result<()> {
    with_both(&key(), |cloud, library| {
        let (ours, theirs) = ("i-lab192168077011", "i-lab192168077012");
        for number in 0..25 {
            let instance = if number < 3 { ours } else { theirs };
            cloud.alibaba.add(format!("10.5.{number}.0/24").parse()?, instance)?;
        }
        let table = cloud.alibaba.table();
        let entries = library.entries(&table, 10)?;
        let distinct: std::collections::BTreeSet<String> =
            entries.iter().map(|entry| entry["RouteEntryId"].to_string()).collect();
        assert_eq!((entries.len(), distinct.len()), (27, 27), "with the system's two");
        let asked = json!({
            "RegionId": "cn-hangzhou",
            "RouteTableId": table,
            "RouteEntryType": "Custom",
            "NextHopType": "Instance",
            "NextHopId": ours,
        });
        let of_ours = library.answer("DescribeRouteEntryList", asked)?;
        assert_eq!(of_ours["RouteEntrys"]["RouteEntry"].as_array().map(Vec::len), Some(3), "{of_ours}");
        Ok(())
    })
}

#[test]
fn refusals_have_the_codes_that_the_vendor_documents() -> Result<()> {
    with_both(&key(), |cloud, library| {
        let (table, instance) = (cloud.alibaba.table(), "i-lab192168077011");
        cloud.alibaba.set_quota(0);
        let mut refusal = |parameters: Value| library.refusal("CreateRouteEntry", parameters);
        let full = refusal(wish(&table, instance, "one"))?;
        assert_eq!(full, (400, "QuotaExceeded".to_owned()));
        let nowhere = refusal(wish(&table, "i-nowhere", "two"))?;
        assert_eq!(nowhere, (400, "InvalidNextHop.NotFound".to_owned()));
        let no_table = refusal(wish("vtb-nowhere", instance, "three"))?;
        assert_eq!(no_table, (404, "InvalidRouteTableId.NotFound".to_owned()));
        let mut inside = wish(&table, instance, "four");
        inside["DestinationCidrBlock"] = json!("192.168.77.128/25");
        assert_eq!(refusal(inside)?, (400, "InvalidCidrBlock".to_owned()));
        cloud.alibaba.fail("DescribeVpcs", [Fault::throttled()]);
        let throttled = library.refusal("DescribeVpcs", json!({ "RegionId": "cn-hangzhou" }))?;
        assert_eq!(throttled, (400, "Throttling.User".to_owned()));
        Ok(())
    })
}

#[test]
fn a_wrong_secret_and_an_unknown_key_are_told_apart() -> Result<()> {
    let asked = json!({ "RegionId": "cn-hangzhou" });
    with_both(&["key", ACCESS_KEY.0, "another"], |_, library| {
        let (status, code) = library.refusal("DescribeVpcs", asked.clone())?;
        // The older library compares the text to sign in the message with its own. Where they are the same it blames the secret.
        assert!(
            status == 400 && ["InvalidAccessKeySecret", "SignatureDoesNotMatch"].contains(&code.as_str()),
            "{code}"
        );
        Ok(())
    })?;
    with_both(&["key", "LTAI-nobody", "another"], |_, library| {
        let refused = library.refusal("DescribeVpcs", asked.clone())?;
        assert_eq!(refused, (404, "InvalidAccessKeyId.NotFound".to_owned()));
        Ok(())
    })
}

/// The older library knows plain metadata alone; the newer one is told to do with hardened metadata alone.
#[test]
fn the_roles_credentials_come_by_metadata_and_expire() -> Result<()> {
    with_both(&["role"], |cloud, library| {
        let asked = json!({ "RegionId": "cn-hangzhou" });
        library.answer("DescribeVpcs", asked.clone())?;
        assert_eq!(cloud.alibaba.sessions(), 1);
        cloud.alibaba.permit("DescribeVpcs", false);
        let denied = library.refusal("DescribeVpcs", asked.clone())?;
        assert_eq!(denied, (403, "Forbidden.RAM".to_owned()));
        cloud.alibaba.permit("DescribeVpcs", true);
        cloud.alibaba.expire_sessions();
        let refused = library.refusal("DescribeVpcs", asked)?;
        assert_eq!(refused, (400, "InvalidSecurityToken.Expired".to_owned()));
        Ok(())
    })
}

#[test]
fn hardened_metadata_is_for_those_who_have_a_token() -> Result<()> {
    let cloud = Cloud::start()?;
    cloud.alibaba.set_hardened(true);
    let Some(mut newer) = cloud.library("v3", &["role"])? else { return Ok(()) };
    newer.answer("DescribeVpcs", json!({ "RegionId": "cn-hangzhou" }))?;
    let mut older = cloud.library("v1", &["role"])?.context("the older library")?;
    let came = older.call("DescribeVpcs", json!({ "RegionId": "cn-hangzhou" }))?;
    assert!(came["failed"].as_str().is_some_and(|error| error.contains("403")), "{came}");
    Ok(())
}
