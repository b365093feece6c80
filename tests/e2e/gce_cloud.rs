//! The lab's Google Cloud is as Google's own libraries expect it.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use flannel_lab::cloud::gce::{Gce, PROJECT};
use flannel_lab::cloud::python;
use flannel_lab::{Lab, Underlay};
use serde_json::{Value, json};

/// Runs a script of the libraries' on a node. None: they are not there.
fn script(name: &str, lab: &Lab, cloud: &Gce) -> Result<Option<Value>> {
    let Some(interpreter) = python::interpreter()? else { return Ok(None) };
    let (node, directory) = (lab.node(0), lab.directory());
    let mut command = node.namespace().command(interpreter);
    command.arg(flannel_lab::artifacts::workspace().join("tests/python/clouds").join(name));
    command.arg(cloud.url()).arg(cloud.service_account_file(directory)?).arg(cloud.user_file(directory)?);
    command.env("GCE_METADATA_HOST", "169.254.169.254").env_remove("GOOGLE_APPLICATION_CREDENTIALS");
    command.env("HOME", directory).env("NO_PROXY", "*").stdin(Stdio::null());
    let output = command.output().context("cannot run Python")?;
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{said}\n{complained}");
    Ok(Some(serde_json::from_str(&said).with_context(|| said.into_owned())?))
}

#[test]
fn googles_own_libraries_pass_the_same_calls() -> Result<()> {
    let lab = Lab::new(2, Underlay::default())?;
    let cloud = Gce::start(&lab)?;
    let Some(found) = script("gce.py", &lab, &cloud)? else { return Ok(()) };
    let resource = |path: &str| format!("https://www.googleapis.com/compute/v1/projects/{PROJECT}/{path}");
    let route = |number: u32| format!("flannel-10-5-{number}-0-24");
    let of_route = |number: u32| format!("The resource 'projects/{PROJECT}/global/routes/{}'", route(number));
    let instance = resource("zones/europe-west3-a/instances/node1");
    for (step, expected) in [
        ("on_gce", json!(true)),
        ("default", json!(["google.auth.compute_engine.credentials", PROJECT])),
        (
            "machine",
            json!([
                format!("node1@{PROJECT}.iam.gserviceaccount.com"),
                ["https://www.googleapis.com/auth/compute"],
                true
            ]),
        ),
        (
            "metadata",
            json!([
                "4000000000000000001",
                "node1",
                "europe-west3-a",
                "projects/123456789012/networks/lab-network",
                "192.168.77.11"
            ]),
        ),
        ("key", json!(true)),
        ("user", json!(true)),
        ("instance", json!([true, instance, resource("global/networks/lab-network")])),
        ("network", json!(true)),
        ("again", json!(true)),
        ("insert", json!(["insert", "DONE", false])),
        ("target", json!(route(1))),
        ("wait", json!("DONE")),
        ("route", json!(["10.5.1.0/24", true, 1000])),
        ("by_id", json!(route(1))),
        ("pages", json!([[route(1), route(2), route(3)], [route(4)]])),
        ("filter_regex", json!([route(1), route(2), route(3), route(4)])),
        ("filter_equal", json!([route(2)])),
        ("filter_none", json!([])),
        ("missing", json!([404, format!("{} was not found", of_route(9)), "notFound"])),
        ("exists", json!([409, format!("{} already exists", of_route(1)), "alreadyExists"])),
        ("not_ready", json!([400, format!("{} is not ready", of_route(1)), "resourceNotReady"])),
        ("refreshed", json!(route(1))),
        ("left", json!([route(3), route(4)])),
    ] {
        assert_eq!(found[step], expected, "{step}");
    }
    for (step, status, reason) in [
        ("invalid", 400, json!("invalid")),
        ("no_instance", 404, json!("notFound")),
        ("bad_filter", 400, json!("invalid")),
    ] {
        assert_eq!((&found[step][0], &found[step][2]), (&json!(status), &reason), "{step}: {}", found[step]);
    }
    assert_eq!(found["read_only"][0], 403, "{}", found["read_only"]);
    Ok(())
}
