//! Whatever happens to nodes and to those who watch them: in the end what was told is what there is.

mod common;

use common::told::{Told, all};
use flannel_fake_kube::{FakeKube, Fault, Mode, node};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::json;
use tokio::runtime::Builder;
use tokio::task::yield_now;

const NODES: usize = 6;
const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";
const POD_CIDRS: &str = "flannel.alpha.coreos.com/pod-cidrs";

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A node is made: with CIDRs, and with an annotation that repeats them.
    Create(usize, bool, bool),
    Delete(usize),
    /// Deleted, and made again with other CIDRs.
    Replace(usize, u8),
    /// A node without CIDRs gets some.
    Allocate(usize),
    Publish(usize, u8),
    /// A node says that it has other CIDRs than it has, maybe another one's: when it is made, if it is not there, or later.
    Lie(usize, usize, u8),
    Beat(usize, u8),
    Cut,
    End,
    Compact,
    Bookmark,
    /// So many requests fail, with this status.
    Fail(usize, u16),
    /// What has happened so far is told, or some of it.
    Breathe(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES;
    let status = prop::sample::select(vec![401_u16, 403, 404, 410, 422, 429, 500, 503, 504]);
    prop_oneof![
        3 => (node(), any::<bool>(), any::<bool>()).prop_map(|(n, cidrs, mirror)| Step::Create(n, cidrs, mirror)),
        2 => node().prop_map(Step::Delete),
        2 => (node(), any::<u8>()).prop_map(|(n, net)| Step::Replace(n, net)),
        1 => node().prop_map(Step::Allocate),
        2 => (node(), any::<u8>()).prop_map(|(n, ip)| Step::Publish(n, ip)),
        3 => (node(), node(), 0..4_u8).prop_map(|(n, of, net)| Step::Lie(n, of, net)),
        1 => (node(), any::<u8>()).prop_map(|(n, beat)| Step::Beat(n, beat)),
        1 => Just(Step::Cut),
        1 => Just(Step::End),
        1 => Just(Step::Compact),
        1 => Just(Step::Bookmark),
        1 => (1..4_usize, status).prop_map(|(times, code)| Step::Fail(times, code)),
        4 => any::<u8>().prop_map(Step::Breathe),
    ]
}

fn make(server: &FakeKube, index: usize, net: Option<u8>, is_mirrored: bool) {
    let name = format!("n{index}");
    if all(server).iter().any(|(there, ..)| *there == name) {
        return;
    }
    let cidrs: Vec<String> = net.iter().map(|net| format!("10.{index}.{net}.0/24")).collect();
    let cidrs: Vec<&str> = cidrs.iter().map(String::as_str).collect();
    let mirror = cidrs.join(",");
    let annotations: &[(&str, &str)] = if is_mirrored { &[(POD_CIDRS, &mirror)] } else { &[] };
    server.create(node(&name, &cidrs, annotations));
}

async fn happen(server: &FakeKube, step: &Step) {
    let name = |index: &usize| format!("n{index}");
    match step {
        Step::Create(index, has_cidrs, is_mirrored) => {
            make(server, *index, has_cidrs.then_some(0), *has_cidrs && *is_mirrored);
        }
        Step::Delete(index) => server.delete(&name(index)),
        Step::Replace(index, net) => {
            server.delete(&name(index));
            make(server, *index, Some(*net), false);
        }
        Step::Allocate(index) => server.update(&name(index), |node| {
            if node["spec"]["podCIDRs"].is_null() {
                node["spec"]["podCIDRs"] = json!([format!("10.{index}.250.0/24")]);
            }
        }),
        Step::Publish(index, ip) => server.update(&name(index), |node| {
            node["metadata"]["annotations"][PUBLIC_IP] = json!(format!("192.0.2.{ip}"));
        }),
        Step::Lie(index, of, net) => {
            let (name, said) = (name(index), format!("10.{of}.{net}.0/24"));
            if all(server).iter().any(|(there, ..)| *there == name) {
                server.update(&name, |node| node["metadata"]["annotations"][POD_CIDRS] = json!(said));
            } else {
                let own = format!("10.{index}.0.0/24");
                let cidrs: &[&str] = if net % 2 == 0 { &[&own] } else { &[] };
                server.create(node(&name, cidrs, &[(POD_CIDRS, &said)]));
            }
        }
        Step::Beat(index, beat) => server.update(&name(index), |node| node["status"]["beat"] = json!(beat)),
        Step::Cut => server.cut_watches(),
        Step::End => server.end_watches(),
        Step::Compact => server.compact(),
        Step::Bookmark => server.send_bookmarks(),
        Step::Fail(times, code) => server.add_fault(Fault::status("/api/v1/nodes", *times, *code)),
        Step::Breathe(milliseconds) => {
            tokio::time::sleep(std::time::Duration::from_millis(u64::from(milliseconds % 16))).await;
        }
    }
    yield_now().await;
}

async fn live_through(steps: &[Step], mode: Mode, page: usize, by_status: bool, has_metadata: bool) {
    let server = FakeKube::start().await;
    server.set_mode(mode);
    server.set_largest_page(page);
    if by_status {
        server.refuse_old_versions_by_status();
    }
    if !has_metadata {
        server.refuse_metadata_form();
    }
    let mut told = Told::peers(&server);
    for step in steps {
        happen(&server, step).await;
        told.take_what_is_there();
    }
    server.clear_faults();
    told.until_as(&server).await;
    // And it stays so.
    told.until_version_of(&server).await;
    assert_eq!(told.all(), all(&server));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 80,
        // Each takes long when it fails.
        max_shrink_iters: 8,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn in_the_end_what_was_told_is_what_there_is(
        steps in prop::collection::vec(step(), 0..60),
        mode in prop::sample::select(vec![Mode::V1_26, Mode::V1_33, Mode::V1_36, Mode::V1_36OnEtcd3_4]),
        page in 1..4_usize,
        by_status in any::<bool>(),
        has_metadata in any::<bool>(),
    ) {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(live_through(&steps, mode, page, by_status, has_metadata));
    }
}
